/**
 * What a server lists and a person approves: tools, prompts, resource templates and the server's own
 * instructions, each pinned by its hash. Agents get only what is listed exactly as it was approved.
 */
import {
  canonicalHash,
  instructionsHash,
  type Observation,
  type PromptDefinition,
  promptHash,
  type TemplateDefinition,
  templateHash,
} from "../dtma/protocol.ts";
import type { Database, Sql, User } from "./db.ts";
import { Conflict, Forbidden, NotFound } from "./errors.ts";
import { recordEvent, withoutNul } from "./events.ts";

/** Tools have a table of their own; the others share one. */
export const KINDS = ["tool", "prompt", "template", "instructions"] as const;
export type Kind = (typeof KINDS)[number];

/** `changed`: approved once, but the server lists another definition now; it is withheld. */
export type DefinitionState = "waiting" | "approved" | "changed" | "gone";

export interface Definition {
  serverId: string;
  kind: Kind;
  /** A template's is its URI template; the instructions' is `instructions`. */
  name: string;
  definition: Record<string, unknown>;
  hash: string;
  state: DefinitionState;
  approvedDefinition: Record<string, unknown> | null;
  approvedHash: string | null;
  approvedAt: Date | null;
  firstSeenAt: Date;
  changedAt: Date;
}

/** A server's prompts, templates and instructions: what needs a decision first, then by kind and name. */
export async function listDefinitions(
  db: Database,
  user: User,
  serverId: string,
): Promise<Definition[]> {
  return await db.asUser(
    user,
    async (sql) =>
      await readPins<Definition>(sql, serverId, sql`kind`, sql`definitions`, sql`true`),
  );
}

/** Pins of a table, in the order in which a person should look at them. */
export async function readPins<T extends Omit<Definition, "kind">>(
  sql: Sql,
  serverId: string,
  kind: ReturnType<Sql>,
  table: ReturnType<Sql>,
  which: ReturnType<Sql>,
): Promise<T[]> {
  const state = sql`case when not present then 'gone' when approved_hash is null then 'waiting'
    when approved_hash = hash then 'approved' else 'changed' end`;
  return await sql<T[]>`
    select server_id as "serverId", ${kind} as kind, name, definition, hash,
      approved_definition as "approvedDefinition", approved_hash as "approvedHash",
      approved_at as "approvedAt", first_seen_at as "firstSeenAt", changed_at as "changedAt",
      ${state} as state
    from ${table} where server_id = ${serverId} and ${which}
    order by array_position(array['changed', 'waiting', 'approved', 'gone'], ${state}), 2, name`;
}

/** A definition that a person saw: what it is called, and by which hash. */
export interface Pick {
  name: string;
  hash: string;
}

/**
 * Approves definitions: exactly those that the person saw, by their hashes. From now on agents get
 * them, as long as the server lists them unchanged.
 *
 * @throws {Conflict} naming those that changed since; the others are approved
 * @throws {Forbidden} for viewers
 */
export async function approveDefinitions(
  db: Database,
  user: User,
  serverId: string,
  kind: Kind,
  picks: Pick[],
): Promise<void> {
  const changed = await db.asUser(user, async (sql) => {
    const server = await findServer(sql, serverId);
    const { table, which } = pinsOf(sql, kind);
    await hold(sql, serverId, kind, picks.map(({ name }) => name));
    const approved: string[] = [];
    for (const { name, hash } of picks) {
      const { count } = await sql`
        update ${table} set approved_definition = definition, approved_hash = hash,
          approved_by = ${user.userId}, approved_at = now()
        where server_id = ${serverId} and ${which} and name = ${name} and hash = ${hash}
          and approved_hash is distinct from hash`;
      if (count > 0) approved.push(name);
    }
    const known = await sql<{ name: string; hash: string; approved_hash: string | null }[]>`
      select name, hash, approved_hash from ${table} where server_id = ${serverId} and ${which}`;
    const now = new Map(known.map((row) => [row.name, row]));
    const stale = picks.filter(({ name, hash }) => now.get(name)?.hash !== hash);
    const refused = picks.some(({ name, hash }) => {
      const row = now.get(name);
      return row?.hash === hash && row.approved_hash !== hash;
    });
    if (refused) {
      throw new Forbidden(`Only members of the workspace can approve ${PLURAL[kind]}`);
    }
    if (approved.length > 0) {
      await recordEvent(sql, user, {
        ...server,
        layer: "tools",
        message: `Approved ${inWords(kind, approved)}`,
      });
    }
    return stale.map(({ name }) => name);
  });
  if (changed.length > 0) {
    throw new Conflict(
      `Changed since you looked, so not approved: ${inWords(kind, changed)}. Read them again`,
    );
  }
}

/**
 * Takes approval back: agents no longer get these.
 *
 * @throws {Forbidden} for viewers
 */
export async function withdrawDefinitions(
  db: Database,
  user: User,
  serverId: string,
  kind: Kind,
  names: string[],
): Promise<void> {
  await db.asUser(user, async (sql) => {
    const server = await findServer(sql, serverId);
    const { table, which } = pinsOf(sql, kind);
    await hold(sql, serverId, kind, names);
    const rows = await sql<{ name: string }[]>`
      update ${table} set approved_definition = null, approved_hash = null, approved_by = null,
        approved_at = null
      where server_id = ${serverId} and ${which} and name = any(${names}) and approved_hash is not null
      returning name`;
    if (rows.length === 0) {
      const [kept] = await sql`
        select from ${table} where server_id = ${serverId} and ${which} and name = any(${names})
          and approved_hash is not null limit 1`;
      if (kept) throw new Forbidden("Only members of the workspace can withdraw an approval");
      return;
    }
    await recordEvent(sql, user, {
      ...server,
      layer: "tools",
      message: `Withdrew the approval of ${inWords(kind, rows.map((row) => row.name))}`,
    });
  });
}

/** What a report lists of one kind, hashed; null: it says nothing of that kind. */
export interface Listed {
  kind: Kind;
  definitions: { name: string; definition: unknown; hash: string }[] | null;
}

/**
 * Longest name. Postgres indexes at most 2,704 bytes, and one character takes up to three: a longer
 * name would hold up every report of its toolbox. MCP recommends 128.
 */
const NAME_LIMIT = 512;

/**
 * Hashes what an observation lists, before any transaction: it takes time, and the embedded database
 * has one session. What has no canonical form (1e999, half a surrogate pair) cannot be pinned, and is
 * left out.
 */
export async function hashListed(seen: Observation): Promise<Listed[]> {
  const { tools, prompts, resourceTemplates, instructions } = seen;
  return await Promise.all([
    listedOf("tool", tools, ({ name }) => name, canonicalHash),
    listedOf("prompt", prompts, ({ name }) => name, (each) => promptHash(each as PromptDefinition)),
    listedOf(
      "template",
      resourceTemplates,
      ({ uriTemplate }) => uriTemplate,
      (each) => templateHash(each as TemplateDefinition),
    ),
    // Of a server without instructions there is nothing; one that has never said is not asked.
    listedOf(
      "instructions",
      instructions === undefined ? undefined : instructions ? [{ text: instructions }] : [],
      () => "instructions",
      ({ text }) => instructionsHash(text),
    ),
  ]);
}

async function listedOf<T>(
  kind: Kind,
  all: T[] | null | undefined,
  nameOf: (definition: T) => string,
  hashOf: (definition: T) => Promise<string>,
): Promise<Listed> {
  if (!all) return { kind, definitions: null };
  const byName = new Map<string, { name: string; definition: T; hash: string }>();
  for (const definition of all) {
    const name = withoutNul(nameOf(definition)).slice(0, NAME_LIMIT).toWellFormed();
    const hash = await hashOf(definition).catch(() => null);
    // A second one of a name cannot be asked for: the first stands.
    if (name && hash && !byName.has(name)) byName.set(name, { name, definition, hash });
  }
  return { kind, definitions: [...byName.values()] };
}

/** Writes what a server lists now; approvals stay as they are. */
export async function writeListed(
  sql: Sql,
  serverId: string,
  { kind, definitions }: Listed,
): Promise<void> {
  if (!definitions) return;
  const { table, which, column, value, key } = pinsOf(sql, kind);
  const known = new Map(
    (await sql<{ name: string; hash: string; present: boolean }[]>`
      select name, hash, present from ${table} where server_id = ${serverId} and ${which}`)
      .map((row) => [row.name, row]),
  );
  const listed = new Set(definitions.map(({ name }) => name));
  const fresh = definitions.filter(({ name, hash }) => {
    const before = known.get(name);
    return before?.hash !== hash || !before.present;
  });
  const gone = [...known].filter(([name, { present }]) => present && !listed.has(name))
    .map(([name]) => name);
  await hold(sql, serverId, kind, [...fresh.map(({ name }) => name), ...gone]);
  for (const { name, definition, hash } of fresh) {
    await sql`
      insert into ${table} as x (server_id, workspace_id, ${column} name, definition, hash)
      select s.id, s.workspace_id, ${value} ${name}, ${
      JSON.stringify(definition)
    }::text::json, ${hash}
      from servers s where s.id = ${serverId}
      on conflict (${key}) do update set definition = excluded.definition, hash = excluded.hash,
        present = true, changed_at = now()`;
  }
  for (const name of gone) {
    await sql`
      update ${table} set present = false, changed_at = now()
      where server_id = ${serverId} and ${which} and name = ${name}`;
  }
}

/** Locks pins in one order for all who write several: else two could wait for each other in a circle. */
async function hold(sql: Sql, serverId: string, kind: Kind, names: string[]): Promise<void> {
  if (names.length < 2) return;
  const { table, which } = pinsOf(sql, kind);
  await sql`
    select from ${table} where server_id = ${serverId} and ${which} and name = any (${names})
    order by name for no key update`;
}

/** Where a kind's pins are. */
export function pinsOf(sql: Sql, kind: Kind) {
  return kind === "tool"
    ? {
      table: sql`tools`,
      which: sql`true`,
      column: sql``,
      value: sql``,
      key: sql`server_id, name`,
    }
    : {
      table: sql`definitions`,
      which: sql`kind = ${kind}`,
      column: sql`kind,`,
      value: sql`${kind},`,
      key: sql`server_id, kind, name`,
    };
}

async function findServer(
  sql: Sql,
  serverId: string,
): Promise<{ serverId: string; workspaceId: string }> {
  const [server] = await sql`select workspace_id from servers where id = ${serverId}`;
  if (!server) throw new NotFound("There is no such server");
  return { serverId, workspaceId: server.workspace_id };
}

const PLURAL: Record<Kind, string> = {
  tool: "tools",
  prompt: "prompts",
  template: "resource templates",
  instructions: "instructions",
};

function inWords(kind: Kind, names: string[]): string {
  if (kind === "instructions") return "the server's instructions";
  const shown = names.slice(0, 10).map((name) => name.slice(0, 60)).join(", ");
  const all = shown + (names.length > 10 ? ` and ${names.length - 10} more` : "");
  return kind === "tool" ? all : `the ${names.length === 1 ? singular(kind) : PLURAL[kind]} ${all}`;
}

function singular(kind: "prompt" | "template"): string {
  return kind === "prompt" ? "prompt" : "resource template";
}
