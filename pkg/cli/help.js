// The texts of `--help`: of the whole command, and of each of its commands.

import { DEFAULT_MODEL } from "../default-model.js";

const SIZE = `${Math.round(DEFAULT_MODEL.size / 1e6)} MB`;

export const HELP = `Usage: workers-ai-local <command> [options]

Text generation as Cloudflare Workers AI offers it, computed on this machine.

Commands:
  run [prompt]        answer a prompt
  chat                hold a conversation in the terminal
  tokenize [prompt]   print the prompt as the model reads it, and its tokens
  serve               serve over HTTP: the REST API of Workers AI, an
                      OpenAI-compatible API, and the playground
  dev [arguments]     \`wrangler dev\` of the project in this folder, with env.AI
                      computed on this machine
  pull NAME           fetch a model, such as llama-3.2-1b, or any GGUF of the
                      Hugging Face hub: hf:owner/repo:Q4_K_M
  list                list the models that are stored on this machine
  rm NAME             remove one
  models              list the model ids

  workers-ai-local <command> --help prints the options of a command.

  -h, --help          print this text
  -v, --version       print the version

The default model, ${DEFAULT_MODEL.file} (${SIZE}), is downloaded once.
Set WORKERS_AI_LOCAL_MODEL=NAME to use another model or file instead, or
WORKERS_AI_LOCAL_CACHE=FOLDER to store models in another folder.

Examples:
  workers-ai-local run "Tell me a joke about Cloudflare"
  git diff | workers-ai-local run "Summarise this change:" -
  workers-ai-local chat --gguf llama-3.2-1b
  workers-ai-local serve --port 8080 --cors http://localhost:5173
  workers-ai-local dev --env staging --port 8787`;

const MODEL = `  --model ID          model id (default: ${DEFAULT_MODEL.id})
  --gguf NAME         the model's weights: a GGUF file, a URL, hf:owner/repo,
                      hf:owner/repo:QUANT, hf:owner/repo/file.gguf, or a name
                      of \`list --available\`; all but files are fetched once
                      and then stored. Without it, the small default model
                      answers for every id. A split model: any of its files, if
                      their names end in -00001-of-00003.gguf; otherwise repeat
                      the option for each file`;

const LORA = `  --lora NAME=PATH    a LoRA adapter: a GGUF file, a folder with
                      adapter_config.json and adapter_model.safetensors, or
                      hf:owner/repo with either`;

const SYSTEM = "  --system TEXT       system prompt";

const SAMPLING = `  --max-tokens N      end the answer after N tokens (default: the model's own,
                      256 for most models)
  --temperature X     0 to 5; 0 always chooses the likeliest token
                      (default: 0.6)
  --top-p X           0 to 2; choose among the likeliest tokens that together
                      have this probability (default: off)
  --top-k N           1 to 50; choose among the N likeliest tokens
                      (default: off)
  --seed N            1 to 9999999999; the same seed gives the same text
                      (default: random)
  --stop TEXT         end the answer before this text; repeatable
  --json-schema FILE|JSON
                      answer with JSON that fits this JSON Schema`;

const COMPUTING = `  --backend NAME      cpu, webgpu, or auto: the GPU if there is a suitable one
                      (default: auto)
  --threads N         1 to 64 threads on the CPU (default: the number of cores
                      up to 4, and half of more)`;

const FORWARD = `  --forward ID[=when-missing]
                      send requests for this model id, or with * for every
                      other one, to Workers AI, with CLOUDFLARE_ACCOUNT_ID and
                      CLOUDFLARE_API_TOKEN; repeatable. when-missing: only if
                      --gguf has no weights for the id`;

const ENGINE = `${COMPUTING}
  --strict            refuse model ids without weights of their own
${FORWARD}`;

const RAW = "  --raw               continue the prompt itself, without a chat template";
const STATS = "  --stats             print the speed on stderr";
const OWN = "  -h, --help          print this text";

/** @type {Record<string, string>} */
const BY_COMMAND = {
  run: `Usage: workers-ai-local run [options] [prompt]

Answers a prompt, and streams the answer to stdout. In the prompt, - is replaced
by stdin, which is also read if there is no prompt.

${MODEL}
${LORA}
${SYSTEM}
${SAMPLING}
${RAW}
  --json              print one JSON object at the end instead of streaming text
${STATS} (always done in a terminal)
${ENGINE}
${OWN}

Examples:
  workers-ai-local run --temperature 0 --max-tokens 40 "What is WebAssembly?"
  git diff | workers-ai-local run "Summarise this change:" -
  workers-ai-local run --json-schema '{"type": "object", "properties": {"name":
    {"type": "string"}}, "required": ["name"]}' "A colour, please"`,

  chat: `Usage: workers-ai-local chat [options]

Holds a conversation: each line of stdin is your next turn, and the model
answers on stdout. It reads only what is new, because it keeps the turns before.

  /new                starts another conversation
  /exit, Ctrl+D       ends
  Ctrl+C              stops the answer; between answers, ends

${MODEL}
${LORA}
${SYSTEM}
${SAMPLING}
${STATS} after each answer
${ENGINE}
${OWN}

Example:
  workers-ai-local chat --system "You are a pirate." --max-tokens 100`,

  tokenize: `Usage: workers-ai-local tokenize [options] [prompt]

Prints the prompt as the model reads it, and its tokens. In the prompt, - is
replaced by stdin, which is also read if there is no prompt.

${MODEL}
${SYSTEM}
${RAW}
  --json              print {"tokens", "text"}
${OWN}`,

  serve: `Usage: workers-ai-local serve [options]

Serves over HTTP: the REST API of Workers AI (/client/v4/…), an
OpenAI-compatible API (/v1/…), the playground (/), and whether the model is
loaded (/health).

  --port N            port (default: 8788; 0 selects any free port)
  --host HOST         address to listen on (default: 127.0.0.1, reachable only
                      from this machine; 0.0.0.0 is every address)
  --model ID          model id to load at the start (default: the default
                      model's)
  --gguf NAME         the model's weights, as for run: for the id of --model, or
                      without --model for every id
${LORA};
                      requests name it as "lora"; repeatable
  --any-model         answer ids that do not exist, such as gpt-4o, with the
                      model that is loaded at the start
  --cors ORIGIN       allow pages of this origin to call the server, or of any
                      origin with "*"; repeatable (default: no other origin)
  --allow-host NAME   answer requests by this host name too; repeatable
                      (default: localhost and the addresses of this machine)
  --key KEY           answer only requests with "Authorization: Bearer KEY", and
                      /health
${ENGINE}
${OWN}

The first Ctrl+C or SIGTERM lets the answers in progress end, for at most 5
seconds; the second stops at once.

Example:
  workers-ai-local serve --port 8080 --cors http://localhost:5173`,

  dev: `Usage: workers-ai-local dev [options] [wrangler's arguments]

Starts \`wrangler dev\` of the project in this folder, with env.AI computed on this
machine. No file of the project changes. \`dev pages\` starts \`wrangler pages dev\`.

  --gguf NAME         the model's weights, as for run: for the id of --model, or
                      without --model for every id
  --model ID          the model id to which --gguf belongs
${LORA};
                      requests name it as "lora"; repeatable
${COMPUTING}
${FORWARD}
${OWN}
  all others          wrangler's own: see \`wrangler dev --help\`

Example:
  workers-ai-local dev --env staging --port 8787`,

  pull: `Usage: workers-ai-local pull NAME…

Fetches models and stores them for all programs of this user. An interrupted
download is continued by the same command. A model that is stored is verified,
and fetched again if the hub has another file by now. The paths of the files are
printed on stdout.

  NAME                llama-3.2-1b and the like: see \`list --available\`
                      hf:owner/repo            the repository's Q4_K_M, or Q4_0
                      hf:owner/repo:Q8_0       another quantisation
                      hf:owner/repo/file.gguf  a file
                      hf:owner/repo@revision…  of a branch, tag or commit
                      https://…                a file anywhere
${OWN}

HF_TOKEN is the hub's token for gated models, HF_ENDPOINT the address of a mirror.

Example:
  workers-ai-local pull hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M`,

  list: `Usage: workers-ai-local list [options]

Lists the models that are stored on this machine: their sizes, whether they fit
its memory, and when they were used last.

  --available         list a few models to fetch, instead
  --json              print the list as JSON
${OWN}`,

  rm: `Usage: workers-ai-local rm NAME…

Removes stored models, by the names that \`list\` shows. An unfinished download is
removed in the same way.

${OWN}`,

  models: `Usage: workers-ai-local models [options]

Lists the model ids: their context windows, the shape of their answers, and
what the models can do.

  --search TEXT       only those in which every word of the text occurs: in the
                      id, the description or the features
  --json              print the catalogue as JSON
${OWN}

Example:
  workers-ai-local models --search "tools glm"`,
};

/**
 * The help of one command.
 *
 * @param {string} command
 */
export const helpOf = (command) => BY_COMMAND[command] ?? HELP;
