// What `--help` prints.

import { DEFAULT_MODEL } from "../default-model.js";

export const HELP = `Usage: workers-ai-local <command> [options]

Text generation as Cloudflare Workers AI offers it, computed on this machine.

Commands:
  run [prompt]        answer a prompt; without one, or where it is -, from stdin
  serve               answer over HTTP: the REST API of Workers AI, an
                      OpenAI-compatible one, and the playground
  models              list the model ids

Options of run:
  --model ID          model id (default: ${DEFAULT_MODEL.id})
  --gguf FILE|URL     the model's weights, a GGUF file; without it the small
                      default model answers for every id. A URL is read anew
                      at every start
  --system TEXT       system prompt
  --max-tokens N      end the answer after N tokens (default: the model's, mostly 256)
  --temperature X     0 to 5; 0 always takes the likeliest token (default: 0.6)
  --top-p X           0 to 2; choose among the likeliest tokens that together have
                      this probability (default: off)
  --top-k N           1 to 50; choose among the N likeliest tokens (default: off)
  --seed N            1 to 9999999999; the same seed gives the same text
                      (default: random)
  --raw               continue the prompt as it stands, without a chat template
  --json              print one JSON object instead of the text as it comes
  --stats             say how fast it was, on stderr (in a terminal: always)

Options of serve:
  --port N            port (default: 8788; 0 takes any free one)
  --host HOST         address to listen on (default: 127.0.0.1, which only this
                      machine reaches; 0.0.0.0 is every address)
  --gguf FILE|URL     the model's weights; with --model for that id, else for every id
  --model ID          model id to load at the start (default: the default model's)
  --cors ORIGIN       let pages of this origin call the server, or of any with "*";
                      may be given several times (default: no other origin)

Options of models:
  --json              print the catalogue as JSON

  -h, --help          this text
  -v, --version       the version

The default model, ${DEFAULT_MODEL.file} (${Math.round(DEFAULT_MODEL.size / 1e6)} MB), is downloaded once.
WORKERS_AI_LOCAL_MODEL=FILE takes another file instead, and
WORKERS_AI_LOCAL_CACHE=FOLDER another place to keep it.

Examples:
  workers-ai-local run "Tell me a joke about Cloudflare"
  workers-ai-local run --temperature 0 --max-tokens 40 "What is WebAssembly?"
  git diff | workers-ai-local run "Summarise this change:" -
  workers-ai-local serve --port 8080 --cors http://localhost:5173`;
