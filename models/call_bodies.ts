/** What was said in calls: kept where a workspace's owner wants it, masked, cut and sealed. */
import { Buffer } from "node:buffer";
import { isSecretName, type Masked, Masking } from "./call_masking.ts";
import type { Database, User } from "./db.ts";
import { openSecret, sealSecret, type SecretsKey } from "./secrets.ts";

/** What a call was asked and what it answered, as JSON texts. */
export interface Said {
  arguments: string;
  /** Null: the caller went away. */
  answer: { kind: "result" | "error"; text: string } | null;
}

/** What is kept of it. */
export interface CallBody {
  arguments: KeptText;
  /** A result as MCP has it, an error of JSON-RPC, or null when the caller went away. */
  answer: ({ kind: "result" | "error" } & KeptText) | null;
}

/** @property value null where it was too large, which `isCut` says */
export type KeptText = Masked;

/** In characters: of what a tool is asked, and of what it answers. */
export const ARGUMENTS_LIMIT = 32 * 1024, ANSWER_LIMIT = 128 * 1024;
/** What is longer is not even read. */
const READ_LIMIT = 1024 * 1024;
/** Of all that waits to be kept, in characters: beyond it calls are recorded without what was said. */
const WAITING_LIMIT = 32 * 1024 * 1024;
/** So long a workspace is taken for one that keeps nothing, and its secrets for those that there are. */
const KNOWN_MS = 10_000;

/** Keeps what was said, beside the path of the call. Off for nearly all, to whom it costs one look into a map. */
export class BodyKeeper {
  /** Until when a workspace keeps nothing, as far as is known. */
  readonly #off = new Map<string, number>();
  readonly #maskings = new Map<string, { masking: Masking; untilMs: number }>();
  #waiting = 0;

  constructor(readonly db: Database, readonly secretsKey: SecretsKey) {}

  /** Whether what is said there may be wanted: to be asked before it is held on to. */
  mayKeep(workspaceId: string): boolean {
    const until = this.#off.get(workspaceId);
    return until === undefined || until < performance.now();
  }

  /** Holds on to what was said, as far as there is room. */
  hold(said: Said): Said | undefined {
    const size = sizeOf(said);
    if (this.#waiting + size > WAITING_LIMIT) return undefined;
    this.#waiting += size;
    return said;
  }

  /** Lets go of what {@link hold} gave. */
  letGo(said: Said): void {
    this.#waiting -= sizeOf(said);
  }

  /** Keeps what was said in calls that are recorded, of those workspaces that want it. */
  async keep(calls: { id: string; workspaceId: string; said: Said }[]): Promise<void> {
    const asked = [...new Set(calls.map(({ workspaceId }) => workspaceId))];
    if (asked.length === 0) return;
    const on = new Set(
      (await this.db.asApp<{ id: string }[]>`
        select id from mooring.workspaces_with_bodies(${asked}) id`).map(({ id }) => id),
    );
    for (const id of asked) {
      if (on.has(id)) this.#off.delete(id);
      else this.#off.set(id, performance.now() + KNOWN_MS);
    }
    const rows = [];
    for (const { id, workspaceId, said } of calls) {
      if (!on.has(workspaceId)) continue;
      const body = bodyOf(said, await this.#maskingOf(workspaceId));
      const sealed = await sealSecret(this.secretsKey, id, JSON.stringify(body));
      rows.push({
        call_id: id,
        key_id: sealed.keyId,
        iv: Buffer.from(sealed.iv).toString("base64"),
        ciphertext: Buffer.from(sealed.ciphertext).toString("base64"),
      });
    }
    if (rows.length) await this.db.asApp`select mooring.record_bodies(${this.db.asApp.json(rows)})`;
  }

  async #maskingOf(workspaceId: string): Promise<Masking> {
    const known = this.#maskings.get(workspaceId);
    if (known && known.untilMs > performance.now()) return known.masking;
    const sealed = await this.db.asApp<
      { id: string; keyId: string; iv: Uint8Array; ciphertext: Uint8Array }[]
    >`select id, key_id as "keyId", iv, ciphertext from mooring.secrets_to_mask(${workspaceId})`;
    const values = await Promise.all(
      sealed.map(({ id, ...secret }) => openSecret(this.secretsKey, id, secret)),
    );
    const masking = new Masking(values.flatMap(secretsIn));
    this.#maskings.set(workspaceId, { masking, untilMs: performance.now() + KNOWN_MS });
    return masking;
  }
}

/**
 * What was said in a call; null when nothing was kept, or nothing any more.
 *
 * @returns null for those who may not see it, too: all but owners and admins
 */
export async function readCallBody(
  { db, secretsKey }: { db: Database; secretsKey: SecretsKey },
  user: User,
  callId: string,
): Promise<CallBody | null> {
  const [row] = await db.asUser(
    user,
    (sql) =>
      sql<{ keyId: string; iv: Uint8Array; ciphertext: Uint8Array }[]>`
      select key_id as "keyId", iv, ciphertext from call_bodies where call_id = ${callId}`,
  );
  return row ? JSON.parse(await openSecret(secretsKey, callId, row)) : null;
}

function bodyOf({ arguments: args, answer }: Said, masking: Masking): CallBody {
  return {
    arguments: kept(args || "{}", masking, ARGUMENTS_LIMIT),
    answer: answer && { kind: answer.kind, ...kept(answer.text, masking, ANSWER_LIMIT) },
  };
}

function kept(text: string, masking: Masking, limit: number): KeptText {
  if (text.length > READ_LIMIT) return { value: null, masked: 0, isCut: true };
  return masking.of(JSON.parse(text), limit);
}

/** A secret itself, and of a sign-in at a remote server, which is JSON, its tokens. */
function secretsIn(value: string): string[] {
  if (!value.startsWith("{")) return [value];
  try {
    const members = Object.entries(JSON.parse(value));
    return [value].concat(
      members.flatMap(([name, each]) =>
        typeof each === "string" && isSecretName(name) ? [each] : []
      ),
    );
  } catch {
    return [value];
  }
}

function sizeOf({ arguments: args, answer }: Said): number {
  return args.length + (answer?.text.length ?? 0);
}
