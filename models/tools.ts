import type { ToolDefinition } from "../dtma/protocol.ts";
import type { Database, User } from "./db.ts";
import {
  approveDefinitions,
  type Definition,
  type DefinitionState,
  type Pick,
  readPins,
  withdrawDefinitions,
} from "./definitions.ts";
import { NotFound } from "./errors.ts";

export type ToolState = DefinitionState;

export interface Tool extends Omit<Definition, "definition" | "approvedDefinition"> {
  definition: ToolDefinition;
  approvedDefinition: ToolDefinition | null;
}

/** A server's tools: what needs a decision first, then by name. */
export async function listTools(db: Database, user: User, serverId: string): Promise<Tool[]> {
  return await db.asUser(
    user,
    async (sql) => await readPins<Tool>(sql, serverId, sql`'tool'`, sql`tools`, sql`true`),
  );
}

/** @throws {NotFound} */
export async function getTool(
  db: Database,
  user: User,
  serverId: string,
  name: string,
): Promise<Tool> {
  const tool = (await listTools(db, user, serverId)).find((tool) => tool.name === name);
  if (!tool) throw new NotFound("The server has no such tool");
  return tool;
}

/** Approves tools. @throws {Conflict | Forbidden} as {@link approveDefinitions} */
export async function approveTools(db: Database, user: User, serverId: string, picks: Pick[]) {
  await approveDefinitions(db, user, serverId, "tool", picks);
}

/** Takes approval back. @throws {Forbidden} for viewers */
export async function withdrawApproval(
  db: Database,
  user: User,
  serverId: string,
  names: string[],
): Promise<void> {
  await withdrawDefinitions(db, user, serverId, "tool", names);
}
