import { Hono } from "hono";
import htmx from "htmx.org/dist/htmx.min.js" with { type: "text" };
import sse from "htmx.org/dist/ext/hx-sse.min.js" with { type: "text" };
import css from "../static/app.css" with { type: "text" };
import js from "../static/app.js" with { type: "text" };
import passkeys from "../static/passkeys.js" with { type: "text" };
import type { Assets } from "../views/layout.tsx";
import type { Env } from "./deps.ts";

const FILES: Record<string, { text: string; type: string }> = {
  "app.css": { text: css, type: "text/css; charset=utf-8" },
  // One file with its extension: htmx looks at the page in a task of its own, which came before the
  // extension where that arrived later, and then the page was never live.
  "htmx.js": { text: `${htmx}\n${sse}`, type: "text/javascript; charset=utf-8" },
  // Before app.js: a form that it holds back is not taken for one that is sent.
  "passkeys.js": { text: passkeys, type: "text/javascript; charset=utf-8" },
  "app.js": { text: js, type: "text/javascript; charset=utf-8" },
};

/** The assets, each under an address with its content's hash, so that browsers keep them for ever. */
export async function staticRoutes(
  basePath: string,
): Promise<{ routes: Hono<Env>; assets: Assets }> {
  const routes = new Hono<Env>();
  const address: Record<string, string> = {};
  for (const [name, { text, type }] of Object.entries(FILES)) {
    const plain = new TextEncoder().encode(text);
    const hash = await contentHash(plain);
    const zipped = await gzip(plain);
    const path = `/static/${hash}/${name}`;
    address[name] = basePath + path;
    routes.get(path, (c) => {
      const isZipped = /\bgzip\b/.test(c.req.header("accept-encoding") ?? "");
      return c.body(isZipped ? zipped : plain, 200, {
        "content-type": type,
        "cache-control": "public, max-age=31536000, immutable",
        vary: "accept-encoding",
        ...(isZipped ? { "content-encoding": "gzip" } : {}),
      });
    });
  }
  const scripts = ["htmx.js", "passkeys.js", "app.js"].map((name) => address[name]);
  return { routes, assets: { css: address["app.css"], scripts } };
}

async function contentHash(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest.slice(0, 6), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function gzip(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
