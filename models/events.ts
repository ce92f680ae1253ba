import type { ReportedEvent } from "../dtma/protocol.ts";
import type { Database, Sql, User } from "./db.ts";

export interface Event {
  id: string;
  serverId: string | null;
  at: Date;
  /** `request`: a person's wish; else the layer it happened in. */
  layer: "request" | "image" | "container" | "handshake" | "tools" | "toolbox" | "workspace";
  level: "info" | "warning" | "error";
  message: string;
  /** Of its server; null: it is about none in particular. */
  generation: number | null;
  /** The person who caused it, if one did. */
  actorName: string | null;
}

/** The newest events of a server, a toolbox or a workspace, newest first; `before` an event's id for older ones. */
export async function listEvents(
  db: Database,
  user: User,
  of:
    | { serverId: string }
    | { toolboxId: string }
    | { workspaceId: string; layer?: Event["layer"] },
  { limit = 50, before }: { limit?: number; before?: string } = {},
): Promise<Event[]> {
  return await db.asUser(user, async (sql) =>
    await sql<Event[]>`
      select e.id, e.server_id as "serverId", e.at, e.layer, e.level, e.message,
        e.generation, coalesce(nullif(p.name, ''), p.email) as "actorName"
      from events e left join profiles p on p.user_id = e.actor
      where ${
      "serverId" in of
        ? sql`e.server_id = ${of.serverId}`
        : "toolboxId" in of
        ? sql`e.toolbox_id = ${of.toolboxId}`
        : sql`e.workspace_id = ${of.workspaceId} and ${
          of.layer ? sql`e.layer = ${of.layer}` : sql`true`
        }`
    }
        and ${before ? sql`e.id < ${before}` : sql`true`}
      order by e.id desc limit ${limit}`);
}

/**
 * Writes a person's event, in the transaction that makes it true. One that makes a generation of the server
 * is the event's too (mooring.note_generation).
 */
export async function recordEvent(
  sql: Sql,
  user: User,
  event: {
    workspaceId: string;
    serverId?: string;
    toolboxId?: string;
    layer: Event["layer"];
    message: string;
  },
): Promise<void> {
  await sql`
    insert into events (workspace_id, server_id, toolbox_id, layer, level, actor, message)
    values (${event.workspaceId}, ${event.serverId ?? null}, ${
    event.toolboxId ?? null
  }, ${event.layer}, 'info',
      ${user.userId}, ${event.message})`;
}

/** Writes a toolbox's events, as the toolbox; those about servers that are gone are left out. */
export async function recordReportedEvents(sql: Sql, events: ReportedEvent[]): Promise<void> {
  for (const event of events) {
    await sql`
      insert into events (workspace_id, server_id, generation, at, layer, level, message)
      select s.workspace_id, s.id, ${event.generation}, ${event.at}, ${event.layer}, ${event.level}, ${
      withoutNul(event.message)
    }
      from servers s where s.id = ${event.serverId}`;
  }
}

/** Postgres text cannot hold U+0000; it is shown as its symbol. */
export function withoutNul(text: string): string {
  return text.replaceAll("\u0000", "\u2400");
}
