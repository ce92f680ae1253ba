/**
 * A fake of hosted models, which cannot be had here: it answers by a script, on the documented wire formats of
 * OpenAI's chat completions and Anthropic's messages, streamed.
 */

/** What was asked, whichever format it came in. */
export interface Asked {
  format: "openai" | "anthropic";
  headers: Headers;
  model: string;
  system: string;
  /** Names of the tools given, in order. */
  tools: string[];
  /** The last thing that the person said. */
  said: string;
  /** Answers of tools since then, in order. */
  results: string[];
  body: Record<string, unknown>;
}

/** What the model does in one step. */
export interface Reply {
  reasoning?: string;
  text?: string;
  calls?: { name: string; args: unknown }[];
  /** In place of all that, an error. */
  status?: number;
  retryAfterS?: number;
  /** The connection ends after the text, without the model's own end. */
  breaks?: boolean;
  /** Between the pieces of its text. */
  pauseMs?: number;
  finish?: "length";
}

export type Script = (asked: Asked, n: number) => Reply | Promise<Reply>;

let serial = 0;

/** Opens a server at a port of its own; `base` is what a workspace is told, for either format. */
export function openModelServer(first: Script) {
  let script = first, n = 0;
  const asked: Asked[] = [];
  const http = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const body = await request.json();
      const { pathname } = new URL(request.url);
      const isAnthropic = pathname === "/v1/messages";
      if (!isAnthropic && pathname !== "/v1/chat/completions") {
        return Response.json({ error: { message: `no ${pathname}` } }, { status: 404 });
      }
      const one = isAnthropic ? anthropicAsked(body) : openaiAsked(body);
      const question = { ...one, headers: request.headers, body };
      asked.push(question);
      const reply = await script(question, n++);
      if (reply.status) {
        const headers = new Headers();
        if (reply.retryAfterS !== undefined) headers.set("retry-after", String(reply.retryAfterS));
        const error = { message: reply.text ?? "refused", type: "error" };
        return Response.json(isAnthropic ? { type: "error", error } : { error }, {
          status: reply.status,
          headers,
        });
      }
      const events = isAnthropic ? anthropicEvents(reply) : openaiEvents(reply);
      return new Response(streamOf(events, reply.pauseMs ?? 0), {
        headers: { "content-type": "text/event-stream" },
      });
    },
  );
  return {
    origin: `http://127.0.0.1:${http.addr.port}`,
    base: `http://127.0.0.1:${http.addr.port}/v1`,
    host: `127.0.0.1:${http.addr.port}`,
    asked,
    play(next: Script) {
      script = next;
      n = 0;
      asked.length = 0;
    },
    [Symbol.asyncDispose]: () => http.shutdown(),
  };
}

function streamOf(events: string[], pauseMs: number): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    async pull(controller) {
      if (at === events.length) return controller.close();
      if (at > 0 && pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
      controller.enqueue(new TextEncoder().encode(events[at++]));
    },
  });
}

/** In pieces of some characters, as models send it; of a very long text in larger ones. */
function pieces(text: string): string[] {
  return text.match(text.length > 100_000 ? /[\s\S]{1,10000}/g : /[\s\S]{1,12}/g) ?? [];
}

// deno-lint-ignore no-explicit-any -- requests as they come
type Body = any;

function openaiAsked(body: Body): Omit<Asked, "headers" | "body"> {
  // Files of tools' answers come as if a person said them, behind the answers.
  const from = body.messages.findLastIndex((each: Body, at: number) =>
    each.role === "user" && body.messages[at - 1]?.role !== "tool"
  );
  return {
    format: "openai",
    model: body.model,
    system: body.messages.filter((each: Body) => each.role === "system")
      .map((each: Body) => each.content).join("\n"),
    tools: (body.tools ?? []).map((each: Body) => each.function.name),
    said: textOf(body.messages[from]?.content),
    results: body.messages.slice(from).filter((each: Body) => each.role === "tool")
      .map((each: Body) => textOf(each.content)),
  };
}

function anthropicAsked(body: Body): Omit<Asked, "headers" | "body"> {
  const isResult = (block: Body) => block.type === "tool_result";
  const blocks = (message: Body): Body[] =>
    typeof message.content === "string"
      ? [{ type: "text", text: message.content }]
      : message.content;
  const from = body.messages.findLastIndex((each: Body) =>
    each.role === "user" && !blocks(each).some(isResult)
  );
  return {
    format: "anthropic",
    model: body.model,
    system: textOf(body.system ?? ""),
    tools: (body.tools ?? []).map((each: Body) => each.name),
    said: textOf(body.messages[from]?.content),
    results: body.messages.slice(from).flatMap(blocks).filter(isResult)
      .map((each: Body) => textOf(each.content)),
  };
}

function textOf(content: Body): string {
  if (typeof content === "string") return content;
  return (content ?? []).map((part: Body) => part.text ?? "").join("");
}

function openaiEvents({ reasoning = "", text = "", calls = [], breaks, finish }: Reply): string[] {
  const id = `chatcmpl-${++serial}`;
  const event = (choice: unknown, more = {}) =>
    `data: ${
      JSON.stringify({
        ...{ id, object: "chat.completion.chunk", created: 1, model: "scripted" },
        choices: choice === null ? [] : [{ index: 0, ...choice as object }],
        ...more,
      })
    }\n\n`;
  const events = [event({ delta: { role: "assistant", content: "" } })];
  for (const piece of pieces(reasoning)) {
    events.push(event({ delta: { reasoning_content: piece } }));
  }
  for (const piece of pieces(text)) events.push(event({ delta: { content: piece } }));
  if (breaks) return events;
  for (const [index, { name, args }] of calls.entries()) {
    const said = typeof args === "string" ? args : JSON.stringify(args);
    const call = { index, id: `call_${serial}_${index}`, type: "function" };
    events.push(event({ delta: { tool_calls: [{ ...call, function: { name, arguments: "" } }] } }));
    for (const piece of pieces(said)) {
      events.push(event({ delta: { tool_calls: [{ index, function: { arguments: piece } }] } }));
    }
  }
  const reason = finish ?? (calls.length > 0 ? "tool_calls" : "stop");
  events.push(event({ delta: {}, finish_reason: reason }));
  events.push(
    event(null, { usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 } }),
  );
  events.push("data: [DONE]\n\n");
  return events;
}

function anthropicEvents(
  { reasoning = "", text = "", calls = [], breaks, finish }: Reply,
): string[] {
  const event = (type: string, data: object) =>
    `event: ${type}\ndata: ${JSON.stringify({ type, ...data })}\n\n`;
  const events = [event("message_start", {
    message: {
      ...{ id: `msg_${++serial}`, type: "message", role: "assistant", model: "scripted" },
      ...{ content: [], stop_reason: null, stop_sequence: null },
      usage: { input_tokens: 10, output_tokens: 1 },
    },
  })];
  let index = 0;
  const block = (content_block: object, deltas: object[]) => {
    events.push(event("content_block_start", { index, content_block }));
    for (const delta of deltas) events.push(event("content_block_delta", { index, delta }));
    events.push(event("content_block_stop", { index: index++ }));
  };
  if (reasoning) {
    block({ type: "thinking", thinking: "", signature: "" }, [
      ...pieces(reasoning).map((thinking) => ({ type: "thinking_delta", thinking })),
      { type: "signature_delta", signature: "c2lnbmVk" },
    ]);
  }
  if (text) {
    block(
      { type: "text", text: "" },
      pieces(text).map((piece) => ({ type: "text_delta", text: piece })),
    );
  }
  if (breaks) return events;
  for (const [at, { name, args }] of calls.entries()) {
    const said = typeof args === "string" ? args : JSON.stringify(args);
    block(
      { type: "tool_use", id: `toolu_${serial}_${at}`, name, input: {} },
      pieces(said).map((partial_json) => ({ type: "input_json_delta", partial_json })),
    );
  }
  const stop_reason = finish === "length"
    ? "max_tokens"
    : calls.length > 0
    ? "tool_use"
    : "end_turn";
  events.push(event("message_delta", {
    delta: { stop_reason, stop_sequence: null },
    usage: { output_tokens: 5 },
  }));
  events.push(event("message_stop", {}));
  return events;
}
