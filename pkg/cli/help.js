// The text of `--help`.

import { DEFAULT_MODEL } from "../default-model.js";

export const HELP = `Usage: workers-ai-local <command> [options]

Text generation as Cloudflare Workers AI offers it, computed on this machine.

Commands:
  run [prompt]        answer a prompt; - is replaced by stdin, which is also read
                      if there is no prompt
  tokenize [prompt]   print the prompt as the model reads it, and its tokens
  serve               serve over HTTP: the REST API of Workers AI, an
                      OpenAI-compatible API, and the playground
  dev [arguments]     \`wrangler dev\` of the project in this folder, with env.AI
                      computed on this machine
  models              list the model ids

Options of run:
  --model ID          model id (default: ${DEFAULT_MODEL.id})
  --gguf FILE|URL     the model's weights, a GGUF file; without it, the small
                      default model answers for every id. A URL is downloaded
                      again at every start. A split model: any of its files, if
                      their names end in -00001-of-00003.gguf; otherwise repeat
                      the option for each file
  --system TEXT       system prompt
  --max-tokens N      end the answer after N tokens (default: the model's own,
                      256 for most models)
  --temperature X     0 to 5; 0 always chooses the likeliest token (default: 0.6)
  --top-p X           0 to 2; choose among the likeliest tokens that together have
                      this probability (default: off)
  --top-k N           1 to 50; choose among the N likeliest tokens (default: off)
  --seed N            1 to 9999999999; the same seed gives the same text
                      (default: random)
  --raw               continue the prompt itself, without a chat template
  --json              print one JSON object at the end instead of streaming text
  --stats             print the speed on stderr (always done in a terminal)

Options of tokenize:
  --model, --gguf, --system and --raw as for run
  --json              print {"tokens", "text"}

Options of serve:
  --port N            port (default: 8788; 0 selects any free port)
  --host HOST         address to listen on (default: 127.0.0.1, reachable only
                      from this machine; 0.0.0.0 is every address)
  --gguf FILE|URL     the model's weights, as for run: for the id of --model, or
                      without --model for every id
  --model ID          model id to load at the start (default: the default model's)
  --cors ORIGIN       allow pages of this origin to call the server, or of any
                      origin with "*"; repeatable (default: no other origin)
  --allow-host NAME   answer requests by this host name too; repeatable (default:
                      localhost and the addresses of this machine only)
  --key KEY           answer only requests with "Authorization: Bearer KEY"

Options of dev:
  --gguf, --model     as for serve
  all others          wrangler's own: see \`wrangler dev --help\`. \`dev pages\` starts
                      \`wrangler pages dev\`

Options of models:
  --json              print the catalogue as JSON

  -h, --help          print this text
  -v, --version       print the version

The default model, ${DEFAULT_MODEL.file} (${Math.round(DEFAULT_MODEL.size / 1e6)} MB), is downloaded once.
Set WORKERS_AI_LOCAL_MODEL=FILE to use another file instead, or
WORKERS_AI_LOCAL_CACHE=FOLDER to store it in another folder.

Examples:
  workers-ai-local run "Tell me a joke about Cloudflare"
  workers-ai-local run --temperature 0 --max-tokens 40 "What is WebAssembly?"
  git diff | workers-ai-local run "Summarise this change:" -
  workers-ai-local serve --port 8080 --cors http://localhost:5173
  workers-ai-local dev --env staging --port 8787`;
