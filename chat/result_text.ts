import type { Result } from "./toolbelt.ts";

/** So much of a tool's answer is given to the model: some ten thousand tokens. */
export const TOLD_LIMIT_CHARS = 40_000;

/** A tool's answer as text for a model: pictures and other bytes are said to be there, and cut if long. */
export function resultText(result: Result): string {
  const parts = result.content.map((block) => {
    if (block.type === "text") return String(block.text ?? "");
    if (block.type === "resource_link") {
      return `[link: ${String(block.title ?? block.name ?? "")} ${String(block.uri)}]`;
    }
    const resource = block.resource as Record<string, unknown> | undefined;
    if (block.type === "resource" && typeof resource?.text === "string") {
      return `[${String(resource.uri)}]\n${resource.text}`;
    }
    const media = String(block.mimeType ?? resource?.mimeType ?? "no known type");
    // Which model reads it, and what that takes, is known later.
    return `[${block.type}, ${media}: the person sees it; you do if it comes behind the answers]`;
  });
  const structured = result.structuredContent;
  if (parts.length === 0 && structured !== undefined) parts.push(JSON.stringify(structured));
  return cut(parts.join("\n") || "(the tool answered with nothing)");
}

/** The beginning of a long text, with a note that says so. */
export function cut(text: string, limitChars = TOLD_LIMIT_CHARS): string {
  if (text.length <= limitChars) return text;
  const count = (n: number) => n.toLocaleString("en");
  return text.slice(0, limitChars).toWellFormed() +
    `\n\n[Cut here: these are the first ${count(limitChars)} of ${
      count(text.length)
    } characters. ` +
    "All of it is kept for the person. To see more, call the tool for a smaller part.]";
}
