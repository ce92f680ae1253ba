/** What the tests of streams share: server-sent events as they come, and sessions by hand. */
import assert from "node:assert/strict";
import type { Bridge } from "./world.ts";

export interface ReadEvent {
  id?: string;
  type: string;
  data: string;
}

/** The events of a response, until it ends or breaks off. */
export async function* eventsOf(response: Response): AsyncGenerator<ReadEvent> {
  let text = "";
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const event: ReadEvent = { type: "message", data: "" };
        for (const line of text.slice(0, end).split("\n")) {
          const [, name, rest] = /^(\w*): ?(.*)$/s.exec(line) ?? [];
          if (name === "id") event.id = rest;
          if (name === "event") event.type = rest;
          if (name === "data") event.data += rest;
        }
        text = text.slice(end + 2);
        if (event.data || event.id) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The messages of a response, JSON or stream. */
export async function messagesOf(response: Response): Promise<Record<string, unknown>[]> {
  if (!response.headers.get("content-type")?.startsWith("text/event-stream")) {
    const body = await response.json();
    return Array.isArray(body) ? body : [body];
  }
  const messages = [];
  for await (const { data } of eventsOf(response)) if (data) messages.push(JSON.parse(data));
  return messages;
}

export const initialize = (revision: string, capabilities: Record<string, unknown> = {}) => ({
  jsonrpc: "2.0",
  id: 0,
  method: "initialize",
  params: { protocolVersion: revision, capabilities, clientInfo: { name: "test", version: "1" } },
});

export const calling = (id: unknown, name: string, args: unknown = {}, meta?: unknown) => ({
  jsonrpc: "2.0",
  id,
  method: "tools/call",
  params: { name, arguments: args, ...(meta ? { _meta: meta } : {}) },
});

/** Requests to either of the replicas, as an agent's client sends them. */
export function sender(bridge: Bridge, path = "/mcp") {
  return function send(
    replica: number,
    { method = "POST", body, headers = {}, signal, token = bridge.token, at = path }: {
      method?: string;
      body?: unknown;
      headers?: Record<string, string>;
      signal?: AbortSignal;
      token?: string;
      at?: string;
    },
  ): Promise<Response> {
    return fetch(new URL(at, bridge.baseUrls[replica]), {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        accept: method === "GET" ? "text/event-stream" : "application/json, text/event-stream",
        ...headers,
      },
      body: body === undefined || typeof body === "string" ? body : JSON.stringify(body),
      signal,
    });
  };
}

/** A session that was opened by hand, whose requests may go to any replica. */
export async function openSession(
  bridge: Bridge,
  { revision = "2025-11-25", capabilities = {}, path = "/mcp" }: {
    revision?: string;
    capabilities?: Record<string, unknown>;
    path?: string;
  } = {},
) {
  const send = sender(bridge, path);
  const opened = await send(0, { body: initialize(revision, capabilities) });
  const id = opened.headers.get("mcp-session-id")!;
  const { result } = await opened.json();
  const headers = { "mcp-session-id": id, "mcp-protocol-version": revision };
  return {
    id,
    result,
    headers,
    send: (replica: number, request: Parameters<typeof send>[1]) =>
      send(replica, { ...request, headers: { ...headers, ...request.headers } }),
  };
}

/** A stream of HTTP+SSE at one replica, whose messages may be posted to any. */
export async function openSse(
  bridge: Bridge,
  replica: number,
  lastEventId?: string,
  path = "/sse",
) {
  const send = sender(bridge);
  const cut = new AbortController();
  const response = await send(replica, {
    method: "GET",
    at: path,
    headers: lastEventId === undefined ? {} : { "last-event-id": lastEventId },
    signal: cut.signal,
  });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("content-type"), "text/event-stream");
  const events = eventsOf(response);
  const { value: endpoint } = await events.next();
  assert.equal(endpoint!.type, "endpoint");
  let lastId = endpoint!.id ?? lastEventId;
  /** The next message as it was written; null at the stream's end. */
  const nextText = async () => {
    const { value, done } = await events.next();
    if (done) return null;
    lastId = value.id ?? lastId;
    return value.data;
  };
  return {
    endpoint: endpoint!.data,
    lastId: () => lastId,
    // deno-lint-ignore no-explicit-any
    async next(): Promise<any> {
      const text = await nextText();
      return text === null ? null : JSON.parse(text);
    },
    nextText,
    cut: () => cut.abort(),
    async post(to: number, body: unknown) {
      const response = await send(to, { at: endpoint!.data, body });
      await response.body?.cancel();
      assert.equal(response.status, 202);
    },
  };
}
