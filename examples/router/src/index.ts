import { snippetPage } from "./snippet";

interface Env {
  STREAMING: Fetcher;
  OBJECT: Fetcher;
}

export default {
  async fetch(request, env): Promise<Response> {
    switch (new URL(request.url).pathname) {
      case "/":
        return env.STREAMING.fetch(request);
      case "/object":
        return env.OBJECT.fetch(request);
      case "/snippet":
        return new Response(snippetPage, { headers: { "content-type": "text/html; charset=utf-8" } });
      default:
        return new Response("Try / (streams), /object or /snippet\n", { status: 404 });
    }
  },
} satisfies ExportedHandler<Env>;
