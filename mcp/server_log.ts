/** The log that a server's toolbox keeps of it: longer than what its page follows. */
import { LOG_METHOD, WAIST_REVISION } from "../dtma/protocol.ts";
import type { Database, User } from "../models/db.ts";
import { Conflict } from "../models/errors.ts";
import { toolboxOfServer } from "../models/toolbelts.ts";
import { META } from "./revisions.ts";
import { callServer, type RouterDeps } from "./router.ts";

/**
 * A server's log, oldest line first.
 * @param search only lines with these words, whatever their case
 * @throws {NotFound} no such server in reach
 * @throws {Conflict} with why its toolbox does not answer
 */
export async function readServerLog(
  deps: RouterDeps & { db: Database },
  user: User,
  serverId: string,
  { search = "", signal }: { search?: string; signal?: AbortSignal } = {},
): Promise<string> {
  const { toolboxId, reach, address } = await toolboxOfServer(deps.db, user, serverId);
  const target = { toolboxId, reach, address, serverId, instance: null };
  const params = { _meta: { [META.protocolVersion]: WAIST_REVISION } };
  const request = JSON.stringify({ jsonrpc: "2.0", id: 1, method: LOG_METHOD, params });
  const answer = await callServer(deps, target, request, { signal });
  const parsed = JSON.parse(answer.text);
  if (answer.kind === "error") {
    throw new Conflict(`The log cannot be read now. ${String(parsed.message)}`);
  }
  const text = String(parsed.text);
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return text;
  return text.split("\n").filter((line) => {
    const folded = line.toLowerCase();
    return words.every((word) => folded.includes(word));
  }).map((line) => line + "\n").join("");
}
