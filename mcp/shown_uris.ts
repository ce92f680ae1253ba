/** URIs in what servers answer, as the agent sees them: of several servers each has a prefix. */
import { objectMembers, objectText } from "../dtma/protocol.ts";
import type { ToolbeltServer } from "../models/toolbelts.ts";
import { hasOtherResources, type NamedToolbelt, shownUri } from "./aggregate.ts";
import { LargeAnswer } from "./large_answer.ts";
import { arrayItems } from "./messages.ts";
import type { Answer } from "./router.ts";

/** Where an answer holds resources: `contents` of a read, `content` of a call, `messages` of a prompt. */
const PLACES = ["contents", "content", "messages"] as const;

/**
 * An answer whose resources can be read, and links followed, by the URIs that it names. All else stays as the
 * server wrote it; so does a link to the web, which a client follows by itself (2026-07-28,
 * server/resources#https).
 */
export function withShownUris(
  named: NamedToolbelt,
  server: ToolbeltServer,
  answer: Answer,
): Answer {
  if (answer instanceof LargeAnswer && !answer.namesUris) return answer;
  if (answer.kind === "error" || !answer.text.includes(`"uri"`)) return answer;
  if (!hasOtherResources(named, server) && !answer.text.includes("mooring:")) return answer;
  const members = objectMembers(answer.text);
  let isChanged = false;
  for (const place of PLACES) {
    const items = members.get(place);
    if (!items?.startsWith("[")) continue;
    const before = arrayItems(items);
    // What was read says by which URI it was.
    const after = before.map((item) => shown(item, place === "contents"));
    if (after.every((item, index) => item === before[index])) continue;
    members.set(place, `[${after.join(",")}]`);
    isChanged = true;
  }
  return isChanged ? { kind: "result", text: objectText(members) } : answer;

  /** One resource, content block or message. */
  function shown(text: string, isOfWebToo: boolean): string {
    if (!text.startsWith("{") || !text.includes(`"uri"`)) return text;
    const item = objectMembers(text);
    let isChanged = false;
    const set = (name: string, value: string) => {
      if (item.get(name) === value) return;
      item.set(name, value);
      isChanged = true;
    };
    const uri: unknown = JSON.parse(item.get("uri") ?? "null");
    if (typeof uri === "string" && (isOfWebToo || !/^https?:/i.test(uri))) {
      const seen = shownUri(named, server, uri);
      if (seen !== uri) set("uri", JSON.stringify(seen));
    }
    for (const inner of ["resource", "content"]) {
      if (item.has(inner)) set(inner, shown(item.get(inner)!, isOfWebToo));
    }
    return isChanged ? objectText(item) : text;
  }
}
