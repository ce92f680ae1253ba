/** URIs in what servers answer, as the agent sees them: of several servers each has a prefix. */
import { objectMembers, objectText } from "../dtma/protocol.ts";
import type { ToolbeltServer } from "../models/toolbelts.ts";
import { type NamedToolbelt, shownUri } from "./aggregate.ts";
import { arrayItems } from "./messages.ts";
import type { Answer } from "./router.ts";

/** Where an answer holds resources: `contents` of a read, `content` of a call, `messages` of a prompt. */
const PLACES = ["contents", "content", "messages"] as const;

/** An answer whose resources can be read, and links followed, by the URIs that it names. */
export function withShownUris(
  named: NamedToolbelt,
  server: ToolbeltServer,
  answer: Answer,
): Answer {
  if (answer.kind === "error" || !answer.text.includes(`"uri"`)) return answer;
  if (shownUri(named, server, "x:") === "x:") return answer;
  const members = objectMembers(answer.text);
  for (const place of PLACES) {
    const items = members.get(place);
    if (!items?.startsWith("[")) continue;
    members.set(place, `[${arrayItems(items).map(shown).join(",")}]`);
  }
  return { kind: "result", text: objectText(members) };

  /** One resource, content block or message. */
  function shown(text: string): string {
    if (!text.startsWith("{") || !text.includes(`"uri"`)) return text;
    const item = objectMembers(text);
    const uri: unknown = JSON.parse(item.get("uri") ?? "null");
    if (typeof uri === "string") item.set("uri", JSON.stringify(shownUri(named, server, uri)));
    for (const inner of ["resource", "content"]) {
      if (item.has(inner)) item.set(inner, shown(item.get(inner)!));
    }
    return objectText(item);
  }
}
