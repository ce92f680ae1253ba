/** What a person may give along with a message: resources and prompts of the agent's toolbelt. */
import type { Conversation, GivenAttachment } from "../models/conversations.ts";
import { giveTokenBack, takeToken } from "../models/conversation_work.ts";
import type { User } from "../models/db.ts";
import { Invalid } from "../models/errors.ts";
import { errorFields } from "../models/log.ts";
import { cut } from "./result_text.ts";
import type { Toolbelt } from "./toolbelt.ts";
import { type ChatDeps, loadToolbelt } from "./turn.ts";

type Of = Pick<Conversation, "workspaceId" | "agentId">;

/** What there is to attach; `trouble` says why there is nothing where it could not be listed. */
export async function attachablesOf(deps: ChatDeps, user: User, of: Of) {
  try {
    return await withToolbelt(deps, user, of, async (belt) => {
      const [resources, prompts] = await Promise.all([belt.resources(), belt.prompts()]);
      return {
        resources: resources.map(({ uri, name, title, description }) => ({
          uri,
          name: title ?? name,
          description,
        })),
        prompts: prompts.map((prompt) => ({ ...prompt, arguments: prompt.arguments ?? [] })),
      };
    });
  } catch (error) {
    deps.log.warn("What can be attached could not be listed", errorFields(error));
    return {
      resources: [],
      prompts: [],
      trouble: "The agent's servers could not be asked. Try again.",
    };
  }
}

/**
 * Reads what a form picks: `resource.<uri>` and `prompt.<name>` are true for each, and
 * `argument.<prompt>.<name>` has a prompt's arguments.
 *
 * @throws {Invalid} with a sentence by the field of what cannot be read
 */
export async function attachmentsOf(
  deps: ChatDeps,
  user: User,
  of: Of,
  form: Record<string, string>,
): Promise<GivenAttachment[]> {
  const picked = Object.keys(form).filter((field) =>
    /^(resource|prompt)\./.test(field) && form[field] === "true"
  );
  if (picked.length === 0) return [];
  const mistakes: Record<string, string> = {};
  const attachments = await withToolbelt(
    deps,
    user,
    of,
    (belt) =>
      Promise.all(picked.map(async (field) => {
        const name = field.slice(field.indexOf(".") + 1);
        const kind = field.startsWith("resource.") ? "resource" as const : "prompt" as const;
        try {
          const { text, media } = kind === "resource"
            ? await belt.read(name)
            : await belt.prompt(name, argumentsOf(form, name));
          return [{ kind, name, text: cut(text), ...(media.length > 0 && { media }) }];
        } catch (error) {
          const why = error instanceof Error ? error.message : String(error);
          mistakes[field] = `${name} could not be read: ${why}`.slice(0, 500);
          return [];
        }
      })),
  );
  if (Object.keys(mistakes).length > 0) {
    throw new Invalid(Object.values(mistakes)[0], mistakes);
  }
  return attachments.flat();
}

/** A prompt's name as a toolbelt shows it has no dot (mcp/names.ts), so that its arguments are no other's. */
function argumentsOf(form: Record<string, string>, prompt: string): Record<string, string> {
  const start = `argument.${prompt}.`;
  return Object.fromEntries(
    Object.entries(form).filter(([field, value]) => field.startsWith(start) && value !== "")
      .map(([field, value]) => [field.slice(start.length), value]),
  );
}

async function withToolbelt<T>(
  deps: ChatDeps,
  user: User,
  { workspaceId, agentId }: Of,
  work: (belt: Toolbelt) => Promise<T>,
): Promise<T> {
  const { db, bridge, version } = deps;
  const { Toolbelt } = await loadToolbelt();
  const { id, token } = await takeToken(db, user, { workspaceId, agentId: agentId! });
  try {
    const belt = await Toolbelt.open({ ...bridge, version, token, transport: "streamable_http" });
    try {
      return await work(belt);
    } finally {
      await belt.close();
    }
  } finally {
    await giveTokenBack(db, user, id);
  }
}
