/**
 * An agent's toolbelt as any client of the bridge has it: over Streamable HTTP or HTTP+SSE, with a token.
 * Nothing of the bridge is reached in another way, so what a conversation can do is what the agent can.
 */
import {
  Client,
  SSEClientTransport,
  StreamableHTTPClientTransport,
} from "@modelcontextprotocol/client";
import { z } from "zod";

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

const Result = z.looseObject({
  content: z.array(z.looseObject({ type: z.string() })).default([]),
  isError: z.boolean().optional(),
});
export type Result = z.infer<typeof Result>;

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
  contents: z.array(z.looseObject({ uri: z.string(), text: z.string().optional() })),
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
      { versionNegotiation: { mode: kind === "http_sse" ? "legacy" : "auto" } },
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

  async resources(signal?: AbortSignal): Promise<Resource[]> {
    if (!this.client.getServerCapabilities()?.resources) return [];
    return await this.#all("resources/list", "resources", Resource, signal);
  }

  async prompts(signal?: AbortSignal): Promise<Prompt[]> {
    if (!this.client.getServerCapabilities()?.prompts) return [];
    return await this.#all("prompts/list", "prompts", Prompt, signal);
  }

  /** Calls a tool; an abort of the signal reaches the tool as MCP's cancellation. */
  async call(name: string, args: Record<string, unknown>, signal: AbortSignal): Promise<Result> {
    return await this.client.request(
      { method: "tools/call", params: { name, arguments: args } },
      Result,
      {
        signal,
        timeout: CALL_TIMEOUT_MS,
        resetTimeoutOnProgress: true,
        maxTotalTimeout: CALL_LIMIT_MS,
        onprogress: () => {},
      },
    );
  }

  /** A resource's texts; what is not text is left out with a word. */
  async read(uri: string, signal?: AbortSignal): Promise<string> {
    const { contents } = await this.client.request(
      { method: "resources/read", params: { uri } },
      Contents,
      { signal, timeout: LIST_TIMEOUT_MS },
    );
    return contents.map(({ text, mimeType }) => text ?? `[${mimeType ?? "binary"}: not text]`).join(
      "\n\n",
    );
  }

  /** A prompt's messages as one text. */
  async prompt(name: string, args: Record<string, string>, signal?: AbortSignal): Promise<string> {
    const { messages } = await this.client.request(
      { method: "prompts/get", params: { name, arguments: args } },
      Messages,
      { signal, timeout: LIST_TIMEOUT_MS },
    );
    return messages.map(({ role, content }) => {
      const text = content.text ?? `[${content.type}: not text]`;
      return messages.length === 1 ? text : `${role}: ${text}`;
    }).join("\n\n");
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
