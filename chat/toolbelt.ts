/**
 * An agent's toolbelt as any client of the bridge has it: over Streamable HTTP or HTTP+SSE, with a token.
 * Nothing of the bridge is reached in another way, so what a conversation can do is what the agent can.
 */
import {
  Client,
  SSEClientTransport,
  StreamableHTTPClientTransport,
  withInputRequired,
} from "@modelcontextprotocol/client";
import { z } from "zod";
import type { Media } from "../models/conversations.ts";
import { GIVEABLE, MEDIA_LIMIT_CHARS, mediaIn } from "./media.ts";

/** Where the bridge is. */
export interface BridgeAddress {
  /** The app's base URL. */
  url: URL;
  /** Requests go by it; in the app itself they stay within the process. */
  fetch: typeof fetch;
  transport: "streamable_http" | "http_sse";
  token: string;
  version: string;
}

// Loose, and not the SDK's own types: what a server says beyond them shall arrive.
const Definition = z.looseObject({
  name: z.string(),
  title: z.string().optional(),
  description: z.string().optional(),
  inputSchema: z.looseObject({}).default({}),
  annotations: z.looseObject({ readOnlyHint: z.boolean().optional() }).optional(),
});
export type Definition = z.infer<typeof Definition>;
const Found = z.object({ tools: z.array(Definition) });
/** As many as are found at once. */
const FOUND_LIMIT = 50;

const Result = z.looseObject({
  content: z.array(z.looseObject({ type: z.string() })).default([]),
  isError: z.boolean().optional(),
});
export type Result = z.infer<typeof Result>;

/** A question of a server's, for the person. */
export interface Asked {
  /** What the server calls it. */
  name: string;
  params: Record<string, unknown>;
}

/** What a call came to: its result, or that the server wants answers before it goes on. */
export type CallOutcome =
  | { result: Result }
  | { asked: Asked[]; requestState: string | null };

/** Answers by the names of their questions, and the state that came with these. */
export interface Answered {
  requestState: string | null;
  inputResponses: Record<string, unknown>;
}

const Elicitation = z.object({
  method: z.literal("elicitation/create"),
  params: z.looseObject({ message: z.string() }),
});
const QUESTIONS_LIMIT = 10;
const QUESTION_LIMIT_CHARS = 64 * 1024;

const Resource = z.looseObject({
  uri: z.string(),
  name: z.string().default(""),
  title: z.string().optional(),
  description: z.string().optional(),
});
export type Resource = z.infer<typeof Resource>;

const Prompt = z.looseObject({
  name: z.string(),
  title: z.string().optional(),
  description: z.string().optional(),
  arguments: z.array(z.looseObject({
    name: z.string(),
    description: z.string().optional(),
    required: z.boolean().optional(),
  })).optional(),
});
export type Prompt = z.infer<typeof Prompt>;

const Contents = z.looseObject({
  contents: z.array(z.looseObject({
    uri: z.string(),
    text: z.string().optional(),
    blob: z.string().optional(),
    mimeType: z.string().optional(),
  })),
});
const Messages = z.looseObject({
  messages: z.array(z.looseObject({
    role: z.string(),
    content: z.looseObject({ type: z.string(), text: z.string().optional() }),
  })),
});

/** A page of a list; so many are read at most. */
const PAGES_LIMIT = 50;
const LIST_TIMEOUT_MS = 30_000;
/** Longest time of a call that says nothing of its progress, and of any. */
const CALL_TIMEOUT_MS = 5 * 60_000;
const CALL_LIMIT_MS = 30 * 60_000;

export class Toolbelt {
  private constructor(private client: Client, private readonly address: BridgeAddress) {}

  static async open(address: BridgeAddress, signal?: AbortSignal): Promise<Toolbelt> {
    return new Toolbelt(await Toolbelt.#connect(address, signal), address);
  }

  static async #connect(address: BridgeAddress, signal?: AbortSignal): Promise<Client> {
    const { url, token, transport: kind, version } = address;
    const base = url.href.replace(/\/+$/, "");
    const requestInit = { headers: { authorization: `Bearer ${token}` } };
    const bridgeFetch = abortable(address.fetch);
    const client = new Client(
      { name: "mooring-chat", title: "Mooring's chat", version },
      {
        versionNegotiation: { mode: kind === "http_sse" ? "legacy" : "auto" },
        // What a server asks comes as a call's result, which is kept until the person answers. Over HTTP+SSE
        // it would come as a request that somebody has to hold open, so there nobody is there to ask.
        capabilities: kind === "http_sse" ? {} : { elicitation: { form: {}, url: {} } },
        inputRequired: { autoFulfill: false },
      },
    );
    const options = { requestInit, fetch: bridgeFetch };
    const transport = kind === "http_sse"
      ? new SSEClientTransport(new URL(`${base}/sse`), options)
      : new StreamableHTTPClientTransport(new URL(`${base}/mcp`), options);
    await client.connect(transport, { signal, timeout: LIST_TIMEOUT_MS });
    return client;
  }

  /** All tools as they are now: asked anew each time, since one may have been approved just before. */
  async tools(signal?: AbortSignal): Promise<Definition[]> {
    try {
      return await this.#all("tools/list", "tools", Definition, signal);
    } catch {
      signal?.throwIfAborted();
      // A session ends with its replica or its stream; with another one it goes on.
      await this.close();
      this.client = await Toolbelt.#connect(this.address, signal);
      return await this.#all("tools/list", "tools", Definition, signal);
    }
  }

  /** With tool search, the definition of a tool that is named; null: it is not found by its name. */
  async found(name: string, signal: AbortSignal): Promise<Definition | null> {
    try {
      const args = { query: name, limit: FOUND_LIMIT };
      const outcome = await this.call("find_tools", args, null, signal);
      if (!("result" in outcome)) return null;
      const { tools } = Found.parse(outcome.result.structuredContent);
      return tools.find((each) => each.name === name) ?? null;
    } catch {
      signal.throwIfAborted();
      return null;
    }
  }

  async resources(signal?: AbortSignal): Promise<Resource[]> {
    if (!this.client.getServerCapabilities()?.resources) return [];
    return await this.#all("resources/list", "resources", Resource, signal);
  }

  async prompts(signal?: AbortSignal): Promise<Prompt[]> {
    if (!this.client.getServerCapabilities()?.prompts) return [];
    return await this.#all("prompts/list", "prompts", Prompt, signal);
  }

  /**
   * Calls a tool; an abort of the signal reaches the tool as MCP's cancellation.
   *
   * @param answered what the person answered, when the call asked them something at its last try
   */
  async call(
    name: string,
    args: Record<string, unknown>,
    answered: Answered | null,
    signal: AbortSignal,
  ): Promise<CallOutcome> {
    const { requestState, inputResponses } = answered ?? { requestState: null };
    const params = {
      name,
      arguments: args,
      ...(inputResponses && { inputResponses }),
      ...(requestState !== null && { requestState }),
    };
    const result = await this.client.request(
      { method: "tools/call", params },
      withInputRequired(Result),
      {
        allowInputRequired: true,
        signal,
        timeout: CALL_TIMEOUT_MS,
        resetTimeoutOnProgress: true,
        maxTotalTimeout: CALL_LIMIT_MS,
        onprogress: () => {},
      },
    );
    if (result.resultType !== "input_required") return { result: result as Result };
    return {
      asked: askedIn((result.inputRequests ?? {}) as Record<string, unknown>),
      requestState: (result.requestState as string | undefined) ?? null,
    };
  }

  /** A resource's texts, and its files; what is not text has a word in its place. */
  async read(uri: string, signal?: AbortSignal): Promise<Attachable> {
    const { contents } = await this.client.request(
      { method: "resources/read", params: { uri } },
      Contents,
      { signal, timeout: LIST_TIMEOUT_MS },
    );
    return attachable(contents.map((resource) => ({
      text: resource.text,
      block: { type: "resource", mimeType: resource.mimeType, resource },
    })));
  }

  /** A prompt's messages as one text, and its files. */
  async prompt(
    name: string,
    args: Record<string, string>,
    signal?: AbortSignal,
  ): Promise<Attachable> {
    const { messages } = await this.client.request(
      { method: "prompts/get", params: { name, arguments: args } },
      Messages,
      { signal, timeout: LIST_TIMEOUT_MS },
    );
    return attachable(messages.map(({ role, content }) => ({
      text: content.text ?? resourceIn(content).text,
      by: messages.length === 1 ? undefined : role,
      block: content,
    })));
  }

  async close(): Promise<void> {
    await this.client.close().catch(() => {});
  }

  async #all<Item extends z.ZodType>(
    method: string,
    member: string,
    item: Item,
    signal?: AbortSignal,
  ): Promise<z.infer<Item>[]> {
    const Page = z.looseObject({
      [member]: z.array(item).default([]),
      nextCursor: z.string().optional(),
    });
    const items: z.infer<Item>[] = [];
    let cursor: string | undefined;
    for (let pages = 0; pages < PAGES_LIMIT; pages++) {
      const page = await this.client.request(
        { method, params: cursor === undefined ? {} : { cursor } },
        Page,
        { signal, timeout: LIST_TIMEOUT_MS },
      );
      items.push(...page[member] as z.infer<Item>[]);
      cursor = page.nextCursor as string | undefined;
      if (cursor === undefined) break;
    }
    return items;
  }
}

/** What a person attaches: text, and files that some models take. */
export interface Attachable {
  text: string;
  media: Media[];
}

function attachable(
  parts: { text?: string; by?: string; block: Record<string, unknown> }[],
): Attachable {
  const media: Media[] = [];
  const texts = parts.map(({ text, by, block }) => {
    const files = text === undefined
      ? mediaIn([block]).filter(({ mediaType, data }) =>
        GIVEABLE.includes(mediaType) && data.length <= MEDIA_LIMIT_CHARS
      )
      : [];
    media.push(...files);
    const type = String(block.mimeType ?? resourceIn(block).mimeType ?? block.type);
    const said = text ?? `[${type}: ${files.length > 0 ? "a file, not text" : "not text"}]`;
    return by === undefined ? said : `${by}: ${said}`;
  });
  return { text: texts.join("\n\n"), media };
}

/** What a block embeds. */
function resourceIn({ resource }: Record<string, unknown>): { text?: string; mimeType?: string } {
  const { text, mimeType } = (resource ?? {}) as Record<string, unknown>;
  return {
    ...(typeof text === "string" && { text }),
    ...(typeof mimeType === "string" && { mimeType }),
  };
}

/** @throws {Error} for what no person can answer, with what it is */
function askedIn(requests: Record<string, unknown>): Asked[] {
  const all = Object.entries(requests);
  if (all.length > QUESTIONS_LIMIT) {
    throw new Error(`Its server asks ${all.length} things at once; at most ${QUESTIONS_LIMIT}`);
  }
  return all.map(([name, request]) => {
    const parsed = Elicitation.safeParse(request);
    if (!parsed.success || name.length > 500 || name.includes("\0")) {
      const { method } = (request ?? {}) as { method?: unknown };
      throw new Error(`Its server asks for what the chat has not: ${String(method).slice(0, 100)}`);
    }
    const { params } = parsed.data;
    if (JSON.stringify(params).length > QUESTION_LIMIT_CHARS) {
      throw new Error("Its server asks for more than can be shown");
    }
    return { name, params };
  });
}

/** As `fetch` is: whoever aborts is answered at once, whatever the other side does. */
function abortable(inner: typeof fetch): typeof fetch {
  return async (input, init) => {
    const signal = init?.signal;
    if (!signal) return await inner(input, init);
    signal.throwIfAborted();
    const { promise, reject } = Promise.withResolvers<never>();
    const onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    const answer = inner(input, init);
    // Where the abort came first, the answer that comes behind it is nobody's.
    answer.then(async ({ body }) => {
      if (signal.aborted) await body?.cancel();
    }).catch(() => {});
    try {
      return await Promise.race([answer, promise]);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  };
}
