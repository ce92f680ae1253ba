/** Answers as revisions before 2026-07-28 take them: the policy that revisions.ts writes down. */
import { INPUT_ERROR, objectMembers, objectText, WAIST_REVISION } from "../dtma/protocol.ts";
import { LargeAnswer } from "./large_answer.ts";
import { arrayItems } from "./messages.ts";
import { isObject, RpcCode } from "./revisions.ts";
import { type Answer, incomplete, isComplete } from "./router.ts";

/** Content types by the revision that brought them. */
const CONTENT_SINCE: Record<string, string> = {
  text: "2024-11-05",
  image: "2024-11-05",
  resource: "2024-11-05",
  audio: "2025-03-26",
  resource_link: "2025-06-18",
};
/** From here on a tool may have an output schema, of an object alone until {@link WAIST_REVISION}. */
const STRUCTURED_SINCE = "2025-06-18";

/** What says on the waist alone something of a result. */
const OF_THE_WAIST = ["resultType", "ttlMs", "cacheScope"];

/** An answer of the waist as a client of the revision takes it. */
export function forRevision(answer: Answer, method: string, revision: string): Answer {
  if (answer.kind === "error") return { kind: "error", text: errorFor(answer.text, revision) };
  if (revision === WAIST_REVISION) return answer;
  const large = answer instanceof LargeAnswer ? answer : null;
  // A small one is taken apart once: this is on the way of each call.
  let members = large ? null : objectMembers(answer.text);
  const type = large ? large.member("resultType") : members!.get("resultType");
  if (!isComplete(type)) return incomplete(answer, type!);
  if (large && isCarried(large, method, revision)) return large.without(OF_THE_WAIST);
  members ??= objectMembers(answer.text);
  for (const name of OF_THE_WAIST) members.delete(name);
  if (method === "tools/call" || method === "tasks/result") fitToolResult(members, revision);
  if (method === "prompts/get") fitPrompt(members, revision);
  return { kind: "result", text: objectText(members) };
}

/** Whether a client of the revision takes a large result as it is, but for what is the waist's. */
function isCarried(answer: LargeAnswer, method: string, revision: string): boolean {
  if (method === "prompts/get") return false;
  if (method !== "tools/call" && method !== "tasks/result") return true;
  for (const written of answer.blockTypes) {
    if (!isKnown(written.slice(1, -1), revision)) return false;
  }
  return !answer.has("structuredContent") ||
    revision >= STRUCTURED_SINCE && answer.isObject("structuredContent");
}

/** A tool's definition as a client of the revision takes it. */
export function definitionFor<T extends { outputSchema?: unknown; _meta?: unknown }>(
  definition: T,
  revision: string,
): T {
  const { outputSchema, ...rest } = definition;
  const isTaken = outputSchema === undefined || revision === WAIST_REVISION ||
    revision < STRUCTURED_SINCE || isObject(outputSchema) && outputSchema.type === "object";
  if (isTaken) return definition;
  const meta = isObject(rest._meta) ? rest._meta : {};
  return { ...rest, _meta: { ...meta, "dev.mooring/outputSchema": outputSchema } } as unknown as T;
}

function errorFor(text: string, revision: string): string {
  if (revision !== WAIST_REVISION && text.includes(INPUT_ERROR)) return ownError(text);
  if (revision !== WAIST_REVISION || !/-320\d\d/.test(text)) return text;
  const members = objectMembers(text);
  const code = Number(members.get("code"));
  if (code === RpcCode.resourceNotFound) members.set("code", String(RpcCode.invalidParams));
  else if (isReserved(code) && !isMissingCapability(code, members.get("data"))) {
    members.set("code", String(RpcCode.internalError));
  }
  return objectText(members);
}

/**
 * Codes that nobody but the specification gives a meaning (2026-07-28, basic#error-codes). Of those that it has,
 * two are about the headers and the revision of a request: a server's are not about the client's.
 */
function isReserved(code: number): boolean {
  return code <= -32020 && code >= -32099;
}

function isMissingCapability(code: number, data: string | undefined): boolean {
  if (code !== RpcCode.missingClientCapability || !data?.startsWith("{")) return false;
  return objectMembers(data).get("requiredCapabilities")?.startsWith("{") ?? false;
}

/** What a server itself said, where the waist says in its place what the client did not declare. */
function ownError(text: string): string {
  const members = objectMembers(text);
  const data = members.get("data");
  const own = data?.startsWith("{") ? objectMembers(data).get(INPUT_ERROR) : undefined;
  const isOurs = members.get("code") === String(RpcCode.missingClientCapability);
  return isOurs && own?.startsWith("{") ? own : text;
}

function fitToolResult(members: Map<string, string>, revision: string): void {
  const content = members.get("content");
  if (content?.startsWith("[")) members.set("content", contentFor(content, revision));
  const structured = members.get("structuredContent");
  if (structured === undefined) return;
  const isTaken = revision < STRUCTURED_SINCE || structured.startsWith("{");
  if (!isTaken) {
    const meta = members.get("_meta");
    const all = meta?.startsWith("{") ? objectMembers(meta) : new Map<string, string>();
    all.set("dev.mooring/structuredContent", structured);
    members.set("_meta", objectText(all));
    members.delete("structuredContent");
  }
  const isSeen = revision >= STRUCTURED_SINCE && isTaken;
  if (!isSeen && /^\[\s*\]$/.test(members.get("content") ?? "[]")) {
    members.set("content", `[${textBlock(structured)}]`);
  }
}

function fitPrompt(members: Map<string, string>, revision: string): void {
  const messages = members.get("messages");
  if (!messages?.startsWith("[") || !mayLack(messages, revision)) return;
  const fitted = arrayItems(messages).flatMap((text) => {
    if (!text.startsWith("{")) return [text];
    const message = objectMembers(text);
    const blocks = blocksFor(message.get("content") ?? "", revision);
    // A message has one block: of two it becomes two of the same role.
    return blocks.map((block) => objectText(new Map([...message, ["content", block]])));
  });
  members.set("messages", `[${fitted.join(",")}]`);
}

function contentFor(content: string, revision: string): string {
  if (!mayLack(content, revision)) return content;
  return `[${arrayItems(content).flatMap((block) => blocksFor(block, revision)).join(",")}]`;
}

/** A quick look at a text of any size: false when it surely has no type that the revision lacks. */
function mayLack(text: string, revision: string): boolean {
  for (const [, type] of text.matchAll(/"type"\s*:\s*"([^"]*)"/g)) {
    if (!isKnown(type, revision)) return true;
  }
  return false;
}

function isKnown(type: string, revision: string): boolean {
  return Object.hasOwn(CONTENT_SINCE, type) && CONTENT_SINCE[type] <= revision;
}

/** A content block in a form that the revision has. */
function blocksFor(text: string, revision: string): string[] {
  if (!text.startsWith("{")) return [text];
  const block = objectMembers(text);
  const type = JSON.parse(block.get("type") ?? "null");
  if (typeof type === "string" && isKnown(type, revision)) return [text];
  const mimeType = block.get("mimeType") ?? `"audio/*"`;
  if (type === "audio" && block.has("data") && mimeType.startsWith('"')) {
    const resource = `{"uri":"mooring:audio","mimeType":${mimeType},"blob":${block.get("data")}}`;
    const rest = [...block].filter(([name]) => name === "annotations" || name === "_meta");
    return [
      textBlock(
        `Audio (${JSON.parse(mimeType)}), as an embedded resource, since MCP ${revision} has none:`,
      ),
      objectText(new Map([["type", `"resource"`], ["resource", resource], ...rest])),
    ];
  }
  return [
    textBlock(
      `Content of the type ${
        JSON.stringify(type)
      }, which MCP ${revision} does not have, as JSON: ` +
        text,
    ),
  ];
}

function textBlock(text: string): string {
  return JSON.stringify({ type: "text", text });
}
