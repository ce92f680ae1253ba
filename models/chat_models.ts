/** The model that a workspace's conversations are held with: where it is, what it is called, its key. */
import { v7 } from "uuid";
import { z } from "zod";
import type { Database, User } from "./db.ts";
import { Forbidden, Invalid, isDenied } from "./errors.ts";
import type { ModelReach } from "./model_reach.ts";
import { openSecret, type SealedSecret, sealSecret, type SecretsKey } from "./secrets.ts";

export const PROVIDERS = ["openai-compatible", "anthropic"] as const;
/** What a model is given beside text: `auto` is as far as its provider and its name tell. */
export const SEES = ["auto", "text", "images", "files"] as const;
export const TRANSPORTS = ["streamable_http", "http_sse"] as const;

export interface ChatModel {
  provider: typeof PROVIDERS[number];
  baseUrl: string;
  model: string;
  /** How agents' tools are reached: as a client of the bridge over either transport. */
  transport: typeof TRANSPORTS[number];
  sees: typeof SEES[number];
  /** So much of a conversation it is given at once. */
  contextTokens: number;
  hasKey: boolean;
  updatedAt: Date;
}

/** A model as a turn works with it. */
export interface OpenedModel
  extends
    Pick<ChatModel, "provider" | "baseUrl" | "model" | "transport" | "sees" | "contextTokens"> {
  key: string | null;
}

const TOKENS = "This is a whole number from 4,000 to 2,000,000";
const ModelForm = z.object({
  provider: z.enum(PROVIDERS, "Choose how the model's server is spoken to"),
  baseUrl: z.string().trim().max(2000).refine(
    (url) => URL.canParse(url) && /^https?:$/.test(new URL(url).protocol),
    "This must be a whole URL, such as https://api.openai.com/v1",
  ).refine(
    (url) => !URL.canParse(url) || !/[?#]/.test(url) && !new URL(url).username,
    "The URL has no ?, no # and no user in it",
  ),
  model: z.string().trim().min(1, "Say which model, by the name that its server has for it")
    .max(200, "The name is at most 200 characters"),
  transport: z.enum(TRANSPORTS).default("streamable_http"),
  sees: z.enum(SEES).default("auto"),
  contextTokens: z.coerce.number(TOKENS).int(TOKENS).min(4000, TOKENS).max(2_000_000, TOKENS)
    .default(100_000),
  key: z.string().trim().max(2000).regex(/^[\x21-\x7e]*$/, "A key is one line without blanks")
    .default(""),
});

/** The workspace's model, or null when none is named. */
export async function getChatModel(
  db: Database,
  user: User,
  workspaceId: string,
): Promise<ChatModel | null> {
  const [row] = await db.asUser(user, (sql) =>
    sql<ChatModel[]>`
      select provider, base_url as "baseUrl", model, transport, sees,
        context_tokens as "contextTokens", has_key as "hasKey",
        updated_at as "updatedAt"
      from chat_models where workspace_id = ${workspaceId}`);
  return row ?? null;
}

/**
 * Names the workspace's model. An empty key keeps the one that is there, as long as it goes to the same
 * host: else whoever may change the URL could have the key sent to themselves.
 *
 * @throws {Invalid} with a sentence for each field that does not hold
 * @throws {Forbidden} for who is no owner or admin
 */
export async function setChatModel(
  { db, secretsKey, models }: { db: Database; secretsKey: SecretsKey; models: ModelReach },
  user: User,
  workspaceId: string,
  form: Record<string, unknown>,
): Promise<void> {
  const parsed = ModelForm.safeParse(form);
  const mistakes: Record<string, string> = {};
  for (const { path, message } of parsed.error?.issues ?? []) mistakes[String(path[0])] ??= message;
  if (!parsed.success) throw new Invalid(sentenceFor(mistakes), mistakes);
  const { key, ...given } = parsed.data;
  const baseUrl = given.baseUrl.replace(/\/+$/, "");
  const refusal = await models.refusalOf(new URL(baseUrl));
  if (refusal) throw new Invalid("One field needs attention", { baseUrl: refusal });
  await forAdmins(() =>
    db.asUser(user, async (sql) => {
      // A form sent twice names one model.
      await sql`select pg_advisory_xact_lock(hashtextextended(${workspaceId}, 3))`;
      const [row] = await sql`
        select id, base_url as "baseUrl", has_key as "hasKey"
        from chat_models where workspace_id = ${workspaceId} for update`;
      if (row?.hasKey && key === "" && new URL(row.baseUrl).host !== new URL(baseUrl).host) {
        const mistake = "The key that is kept goes to another host: give the key for this one";
        throw new Invalid("One field needs attention", { key: mistake });
      }
      const id: string = row?.id ?? v7();
      const sealed = key === "" ? null : await sealSecret(secretsKey, id, key);
      const columns = {
        provider: given.provider,
        base_url: baseUrl,
        model: given.model,
        transport: given.transport,
        sees: given.sees,
        context_tokens: given.contextTokens,
        updated_at: new Date(),
        ...(sealed && { key_id: sealed.keyId, iv: sealed.iv, ciphertext: sealed.ciphertext }),
      };
      if (row) await sql`update chat_models set ${sql(columns)} where id = ${id}`;
      else await sql`insert into chat_models ${sql({ id, workspace_id: workspaceId, ...columns })}`;
    })
  );
}

/** Forgets the workspace's model and its key; conversations stay. */
export async function removeChatModel(db: Database, user: User, workspaceId: string) {
  await forAdmins(() =>
    db.asUser(user, async (sql) => {
      const had = await sql`select from chat_models where workspace_id = ${workspaceId}`;
      const { count } = await sql`delete from chat_models where workspace_id = ${workspaceId}`;
      if (had.length > count) throw new Forbidden(ADMINS_ONLY);
    })
  );
}

/** The model with its key, for the worker that holds a turn; null when none is named. */
export async function modelOfTurn(
  db: Database,
  secretsKey: SecretsKey,
  turnId: string,
  worker: string,
): Promise<OpenedModel | null> {
  const [row] = await db.asApp<
    (
      & Omit<OpenedModel, "key">
      & { id: string }
      & { [Name in keyof SealedSecret]: SealedSecret[Name] | null }
    )[]
  >`
    select id, provider, base_url as "baseUrl", model, transport, sees,
      context_tokens as "contextTokens", key_id as "keyId", iv, ciphertext
    from mooring.model_of_turn(${turnId}, ${worker})`;
  if (!row) return null;
  const { id, keyId, iv, ciphertext, ...model } = row;
  const key = keyId === null || iv === null || ciphertext === null
    ? null
    : await openSecret(secretsKey, id, { keyId, iv, ciphertext });
  return { ...model, key };
}

const ADMINS_ONLY = "Only owners and admins of the workspace name its model";

async function forAdmins(change: () => Promise<unknown>) {
  try {
    await change();
  } catch (error) {
    if (isDenied(error)) throw new Forbidden(ADMINS_ONLY);
    throw error;
  }
}

function sentenceFor(mistakes: Record<string, string>): string {
  const count = Object.keys(mistakes).length;
  return count === 1 ? "One field needs attention" : `${count} fields need attention`;
}
