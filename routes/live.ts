import type { Context } from "hono";
import type { Child } from "hono/jsx";
import type { Change } from "../models/db.ts";
import { errorFields } from "../models/log.ts";
import type { Deps, Env } from "./deps.ts";
import { htmlOf } from "./render.tsx";

/** A part of an open page, and where it stands there. */
export interface Part {
  target: string;
  content: Child;
}

/** Changes that come within this time are one message. */
const COALESCE_MS = 150;
/** How often a quiet page is looked at again: a wake-up can be lost, and silence is news too. */
const LOOK_AGAIN_MS = 15_000;

/**
 * Keeps an open page true: a stream of server-sent events, each with the parts whose HTML changed.
 * Every message carries whole parts, and a new stream begins with all of them, so a cut stream
 * loses nothing and needs no memory on our side. It ends when the session does.
 *
 * @param matches the changes that may concern the page
 * @param render reads the present state; null when what the page shows is gone
 */
export function live(
  c: Context<Env>,
  { changes, identity, log }: Deps,
  matches: (change: Change) => boolean,
  render: () => Promise<Part[] | null>,
): Response {
  const headers = c.req.raw.headers;
  const left = new AbortController();
  const signal = AbortSignal.any([c.req.raw.signal, left.signal]);
  const wakeUps = changes.subscribe(matches);
  const sent = new Map<string, string>();
  const encoder = new TextEncoder();

  const body = new ReadableStream<Uint8Array>({
    async start(controller) {
      const write = (text: string) => {
        if (!signal.aborted) controller.enqueue(encoder.encode(text));
      };
      try {
        for (let id = 1; !signal.aborted; id++) {
          if (!await identity.userOf(headers)) break;
          const parts = await render();
          write(message(id, parts ? await changedParts(parts) : []));
          if (!parts) break;
          await wakeUps.next(LOOK_AGAIN_MS, signal);
          await new Promise((resolve) => setTimeout(resolve, COALESCE_MS));
        }
      } catch (error) {
        // The browser connects again; what went wrong is for the log, not for the page.
        if (!signal.aborted) log.error("A live page broke off", errorFields(error));
      } finally {
        wakeUps.close();
        if (!signal.aborted) controller.close();
      }
    },
    cancel: () => left.abort(),
  });

  async function changedParts(parts: Part[]): Promise<string[]> {
    const changed: string[] = [];
    for (const { target, content } of parts) {
      const html = await htmlOf(c, content);
      if (sent.get(target) === html) continue;
      sent.set(target, html);
      changed.push(`<hx-partial hx-target="${target}" hx-swap="outerMorph">${html}</hx-partial>`);
    }
    return changed;
  }

  return new Response(body, {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
    },
  });
}

/** One event; a comment, which keeps the connection open, when nothing changed. */
function message(id: number, partials: string[]): string {
  if (partials.length === 0) return ": ping\n\n";
  const lines = partials.join("\n").split(/\r\n|\r|\n/);
  return `id: ${id}\n${lines.map((line) => `data: ${line}\n`).join("")}\n`;
}
