import type { FilePart, ModelMessage, TextPart } from "ai";
import type { Media, Step, Turn } from "../models/conversations.ts";
import type { Place, Summary } from "../models/conversation_summaries.ts";
import type { GivenMedia } from "./media.ts";
import { cut, TOLD_LIMIT_CHARS } from "./result_text.ts";

/** What stands for so much of a conversation, and how much a model is given at once. */
export interface Memory {
  summary?: Summary | null;
  limitChars?: number;
}

/** A conversation as the model is given it: all of it, or the summary of its beginning and the rest. */
export function messagesOf(
  turns: Turn[],
  { summary = null, limitChars = Infinity }: Memory = {},
  media: GivenMedia = new Map(),
): ModelMessage[] {
  return unitsOf(since(turns, summary, limitChars), limitChars, media)
    .flatMap(({ messages }) => messages);
}

/** The turns that a model is given beside the summary. */
export function since(
  turns: Turn[],
  summary: Summary | null,
  limitChars: number,
): (Turn & { earlier?: string })[] {
  const from = turns.findIndex(({ id }) => id === summary?.until.turnId);
  if (!summary?.text || from < 0) return turns;
  const { step } = summary.until;
  const [first, ...rest] = turns.slice(from);
  const earlier = summary.text;
  // Of a turn that is given in part, what the person said stands at its head once more.
  return step === 0 ? [{ ...first, earlier }, ...rest] : [{
    ...first,
    earlier,
    text: cut(first.text, limitChars / 4),
    attachments: [],
    steps: first.steps.filter(({ n }) => n >= step),
  }, ...rest];
}

/** What has to be summarised before the model is asked again; null: it all fits. */
export interface Overflow {
  until: Place;
  /** What was said, as text. */
  text: string;
}

/**
 * The beginning of a conversation that is too long: so much of it that the rest takes half of the room, but no
 * more than the model can read at once. It never ends between a tool's call and its answer.
 */
export function overflowOf(
  turns: Turn[],
  { summary = null, limitChars = Infinity }: Memory,
): Overflow | null {
  const units = unitsOf(since(turns, summary, limitChars), limitChars, new Map());
  const sizes = units.map(({ messages }) => JSON.stringify(messages).length);
  if (units.length < 2 || sizes.reduce((a, b) => a + b, 0) <= limitChars) return null;
  let first = units.length - 1, kept = sizes[first];
  while (first > 1 && kept + sizes[first - 1] <= limitChars / 2) kept += sizes[--first];
  let count = 1, read = sizes[0];
  while (count < first && read + sizes[count] <= limitChars) read += sizes[count++];
  const text = units.slice(0, count).flatMap(({ messages }) => messages).map(asText).join("\n\n");
  return { until: units[count].place, text: cut(text, limitChars) };
}

/** What a model is given whole or not at all: a step with its calls, the first with what it answers. */
interface Unit {
  place: Place;
  messages: ModelMessage[];
}

function unitsOf(
  turns: (Turn & { earlier?: string })[],
  limitChars: number,
  media: GivenMedia,
): Unit[] {
  return turns.flatMap((turn) => {
    const { id, steps, state } = turn;
    const units = steps.map((step): Unit => ({
      place: { turnId: id, step: step.n },
      messages: stepMessages(step, limitChars, media),
    }));
    if (units.length === 0) units.push({ place: { turnId: id, step: 0 }, messages: [] });
    units[0].messages.unshift(said(turn, media.get(id) ?? []));
    // Models expect that a question of theirs is answered before the next one of a person's.
    if (state === "stopped" && steps.at(-1)?.calls.length) {
      const stopped = "[The person stopped me here.]";
      units.at(-1)!.messages.push({ role: "assistant", content: stopped });
    }
    return units;
  });
}

function said(
  { earlier, text, attachments }: Turn & { earlier?: string },
  files: Media[],
): ModelMessage {
  const all = [
    ...(earlier === undefined ? [] : [`<earlier summarised>\n${earlier}\n</earlier>`]),
    ...attachments.map(({ kind, name, text }) =>
      `<attached ${kind}=${JSON.stringify(name)}>\n${text}\n</attached>`
    ),
    text,
  ].join("\n\n");
  if (files.length === 0) return { role: "user", content: all };
  return { role: "user", content: [...files.map(filePart), { type: "text", text: all }] };
}

function stepMessages(
  { message, text, calls }: Step,
  limitChars: number,
  media: GivenMedia,
): ModelMessage[] {
  if (message === null) return text ? [{ role: "assistant", content: text }] : [];
  const said = message as ModelMessage;
  if (calls.length === 0) return [said];
  const toldChars = Math.min(TOLD_LIMIT_CHARS, limitChars / 4);
  // Not every API has files in a tool's answer; all have them in what is said.
  const files = calls.flatMap(({ id, callId, tool }): (TextPart | FilePart)[] => {
    const own = media.get(id) ?? [];
    if (own.length === 0) return [];
    const text = `[From the answer of ${tool} to ${callId}:]`;
    return [{ type: "text", text }, ...own.map(filePart)];
  });
  return [
    said,
    {
      role: "tool",
      content: calls.map(({ callId, tool, told, state }) => ({
        type: "tool-result" as const,
        toolCallId: callId,
        toolName: tool,
        output: {
          type: state === "done" ? "text" as const : "error-text" as const,
          value: cut(told ?? "There is no answer", toldChars),
        },
      })),
    },
    ...(files.length > 0 ? [{ role: "user" as const, content: files }] : []),
  ];
}

function filePart({ mediaType, data }: Media): FilePart {
  return { type: "file", mediaType, data };
}

/** A message for who summarises. What the model thought is left out. */
function asText({ role, content }: ModelMessage): string {
  if (typeof content === "string") return `${role === "user" ? "Person" : "Assistant"}: ${content}`;
  return content.map((part) => {
    if (part.type === "text") return `${role === "user" ? "Person" : "Assistant"}: ${part.text}`;
    if (part.type === "tool-call") {
      return `Assistant calls ${part.toolName}: ${JSON.stringify(part.input)}`;
    }
    if (part.type !== "tool-result") return "";
    const { output } = part;
    return `${part.toolName} answers: ${"value" in output ? String(output.value) : ""}`;
  }).filter(Boolean).join("\n");
}
