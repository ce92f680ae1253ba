/** The model of a workspace, behind the AI SDK: one step of it, and what went wrong in words. */
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  APICallError,
  type AssistantModelMessage,
  dynamicTool,
  jsonSchema,
  type LanguageModel,
  type ModelMessage,
  RetryError,
  streamText,
} from "ai";
import type { OpenedModel } from "../models/chat_models.ts";
import { parseExactly } from "../models/exact_json.ts";
import { OutsideError } from "../models/outside.ts";
import type { Definition } from "./toolbelt.ts";
import { Trouble } from "./trouble.ts";

/** The SDK asks again where the server is busy, and waits as long as it says, up to a minute. */
const RETRIES = 4;
/** Without a word for so long it is given up: reasoning models may think for minutes. */
const SILENCE_MS = 4 * 60_000;

/**
 * So much a model writes in a step, and so many calls it asks for at once: more than any means to. Small ones fall
 * into repeating themselves, and what they write is kept and what they ask for is done.
 */
const WRITTEN_LIMIT_CHARS = 2_000_000;
const CALLS_LIMIT = 200;

// The SDK would write warnings to the console, one a step, in place of the app's log.
(globalThis as { AI_SDK_LOG_WARNINGS?: boolean }).AI_SDK_LOG_WARNINGS = false;

export function openModel(model: OpenedModel, reach: typeof fetch): LanguageModel {
  const settings = { baseURL: model.baseUrl, fetch: reach };
  return model.provider === "anthropic"
    // The SDK would look for a key in the environment: a workspace's is its own or none.
    ? createAnthropic({ ...settings, apiKey: model.key ?? "none" })(model.model)
    : createOpenAICompatible({
      ...settings,
      name: "model",
      apiKey: model.key ?? undefined,
      includeUsage: true,
    })(model.model);
}

/** What a step came to. */
export interface StepOutcome {
  message: AssistantModelMessage;
  calls: { callId: string; tool: string; input: unknown; mistake: string | null }[];
  inputTokens: number | null;
  outputTokens: number | null;
  /** The model wrote until it could write no more. */
  isCutShort: boolean;
}

/**
 * Has the model take one step. The tools are given without a way to run them: who asked runs them.
 *
 * @param onDelta what it thinks and writes, as it comes
 * @throws what the SDK throws; see {@link troubleOf}
 */
export async function modelStep(
  model: LanguageModel,
  { instructions, messages, tools, signal, onDelta }: {
    instructions: string;
    messages: ModelMessage[];
    tools: Definition[];
    signal: AbortSignal;
    onDelta: (delta: { reasoning?: string; text?: string }) => void;
  },
): Promise<StepOutcome> {
  const given = tools.map(({ name, description, title, inputSchema }) =>
    [
      name,
      dynamicTool({
        description: description ?? title ?? name,
        inputSchema: jsonSchema(inputSchema),
        execute: undefined as never,
      }),
    ] as const
  );
  // What is over its limits is not read to its end.
  const over = new AbortController();
  const result = streamText({
    model,
    ...(instructions ? { instructions } : {}),
    messages,
    ...(given.length > 0 ? { tools: Object.fromEntries(given) } : {}),
    maxRetries: RETRIES,
    abortSignal: AbortSignal.any([signal, over.signal]),
    timeout: { chunkMs: SILENCE_MS },
    // The error comes as a part of the stream; the SDK would print it besides.
    onError: () => {},
  });
  const calls: StepOutcome["calls"] = [];
  const written = new Map<string, string>();
  let chars = 0;
  let end: {
    finishReason: string;
    rawFinishReason?: string;
    usage: { inputTokens?: number; outputTokens?: number };
  } | null = null;
  for await (const part of result.fullStream) {
    if (part.type === "text-delta" || part.type === "reasoning-delta") chars += part.text.length;
    else if (part.type === "tool-input-delta") chars += part.delta.length;
    if (chars > WRITTEN_LIMIT_CHARS || calls.length > CALLS_LIMIT) {
      over.abort();
      throw new Trouble(
        "The model wrote or asked for more at once than any means to, and was stopped. Try again",
      );
    }
    if (part.type === "text-delta") onDelta({ text: part.text });
    else if (part.type === "reasoning-delta") onDelta({ reasoning: part.text });
    else if (part.type === "error") throw part.error;
    else if (part.type === "abort") signal.throwIfAborted();
    else if (part.type === "finish-step") end = part;
    else if (part.type === "tool-input-delta") {
      written.set(part.id, (written.get(part.id) ?? "") + part.delta);
    } else if (part.type === "tool-call") {
      const mistake = part.invalid
        ? given.some(([name]) => name === part.toolName)
          ? `The arguments are no JSON of an object: ${String(part.input).slice(0, 200)}`
          : `There is no tool ${part.toolName}`
        : null;
      const { toolCallId: callId, toolName: tool } = part;
      const input = part.invalid ? part.input : asWritten(written.get(callId), part.input);
      calls.push({ callId, tool, input, mistake });
    }
  }
  signal.throwIfAborted();
  // A stream that was cut looks like one that ended, but for its reason to.
  if (end?.rawFinishReason === undefined) throw new Error("its end never came");
  const said = (await result.response).messages.find(({ role }) => role === "assistant");
  if (!said) throw new Error("The model answered with nothing");
  return {
    message: said as AssistantModelMessage,
    calls,
    inputTokens: end.usage.inputTokens ?? null,
    outputTokens: end.usage.outputTokens ?? null,
    isCutShort: end.finishReason === "length",
  };
}

/** The arguments that the SDK read out of a text, with the numbers that are too long for it. */
function asWritten(text: string | undefined, input: unknown): unknown {
  try {
    return text ? parseExactly(text) : input;
  } catch {
    return input;
  }
}

/** Whether the same step may go well a moment later: the answer broke off, and nothing has come of it. */
export function isPassing(error: unknown): boolean {
  return !APICallError.isInstance(error) && !RetryError.isInstance(error) &&
    !(error instanceof OutsideError) && !(error instanceof Trouble);
}

/** Whether its server did not take what it was given: not for a key, a name or a limit. */
export function isRefusal(error: unknown): boolean {
  return APICallError.isInstance(error) && [400, 413, 415, 422].includes(error.statusCode ?? 0);
}

/** What went wrong with a model, as a sentence for a person. The key is in none. */
export function troubleOf(error: unknown, { baseUrl, model, key }: OpenedModel): string {
  const cause = RetryError.isInstance(error) ? error.lastError : error;
  const host = new URL(baseUrl).host;
  const hidden = (text: string) => (key ? text.replaceAll(key, "…") : text).slice(0, 500);
  if (APICallError.isInstance(cause)) {
    const { statusCode: status, message, cause: inner } = cause;
    if (status === undefined) {
      const why = inner instanceof Error ? inner.message : message;
      return `${host} could not be asked: ${hidden(why)}`;
    }
    const why = WHY[status] ??
      (status >= 500 ? "it is out of order just now" : "it refused the request");
    const advice = status === 413 || TOO_LONG.test(message)
      ? " Give it less at once: the workspace's page, at Model, says how much"
      : "";
    return `${host} answered ${status}: ${why.replace("%", model)}. It says: ${hidden(message)}` +
      (advice && `.${advice}`);
  }
  if (cause instanceof OutsideError || cause instanceof Trouble) return hidden(cause.message);
  const message = cause instanceof Error ? cause.message : String(cause);
  return `The answer of ${model} at ${host} broke off: ${hidden(message)}`;
}

/** As the servers say that a conversation is longer than the model reads. */
const TOO_LONG = /context.{0,20}(length|window|size)|(prompt|input) is too long|too many tokens/i;

const WHY: Record<number, string> = {
  401: "the key is not right, or missing",
  403: "the key may not use it",
  404: "it has no model %, or the base URL is another",
  413: "the conversation is too long for it",
  429: "it is asked too often, or the account has run out",
};
