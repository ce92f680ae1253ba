/** What a server's toolbox keeps of it: its log, longer than what its page follows, and its image's parts. */
import { BOM_METHOD, LOG_METHOD, WAIST_REVISION } from "../dtma/protocol.ts";
import type { Database, User } from "../models/db.ts";
import { Conflict, NotFound } from "../models/errors.ts";
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
  const answer = await askToolbox(deps, user, serverId, LOG_METHOD, signal);
  if ("error" in answer) throw new Conflict(`The log cannot be read now. ${answer.error.message}`);
  const text = String(answer.result.text);
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return text;
  return text.split("\n").filter((line) => {
    const folded = line.toLowerCase();
    return words.every((word) => folded.includes(word));
  }).map((line) => line + "\n").join("");
}

const METHOD_NOT_FOUND = -32601;

/**
 * What is in a server's image: a CycloneDX document of the packages that its build installed.
 * @throws {NotFound} no such server in reach, or no image of it yet
 * @throws {Conflict} with why its toolbox does not answer
 */
export async function readBillOfMaterials(
  deps: RouterDeps & { db: Database },
  user: User,
  serverId: string,
  signal?: AbortSignal,
): Promise<Record<string, unknown>> {
  const answer = await askToolbox(deps, user, serverId, BOM_METHOD, signal);
  if ("error" in answer) {
    const { code, message } = answer.error;
    throw new Conflict(
      code === METHOD_NOT_FOUND
        ? "The toolbox's DTMA is too old to hand over bills of materials: upgrade it"
        : `The bill of materials cannot be read now. ${message}`,
    );
  }
  const { bom } = answer.result;
  if (bom) return bom as Record<string, unknown>;
  throw new NotFound("The toolbox has no image of this server, so it knows no parts of it");
}

/** Asks a server's toolbox, whether the server runs or not. */
async function askToolbox(
  deps: RouterDeps & { db: Database },
  user: User,
  serverId: string,
  method: string,
  signal?: AbortSignal,
): Promise<{ result: Record<string, unknown> } | { error: { code: number; message: string } }> {
  const { toolboxId, reach, address } = await toolboxOfServer(deps.db, user, serverId);
  const target = { toolboxId, reach, address, serverId, instance: null };
  const params = { _meta: { [META.protocolVersion]: WAIST_REVISION } };
  const request = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
  const { kind, text } = await callServer(deps, target, request, { signal });
  return { [kind]: JSON.parse(text) } as Awaited<ReturnType<typeof askToolbox>>;
}
