import { type Context, Hono } from "hono";
import { z } from "zod";
import { STDIO } from "../dtma/protocol.ts";
import { Invalid } from "../models/errors.ts";
import { mustTakeAccount, REMOTE_MEMORY_MIB, remoteEntry } from "../models/remote_servers.ts";
import { deployEntry } from "../models/servers.ts";
import { listToolboxes } from "../models/toolboxes.ts";
import { RemoteServer } from "../views/remote_server.tsx";
import { signInPage } from "./authorizations.tsx";
import type { Deps, Env } from "./deps.ts";
import { placing } from "./placing.ts";
import { formOf, goTo, page } from "./render.tsx";

const Form = z.object({
  name: z.string().trim().optional(),
  /** Left empty: the app chooses. */
  toolboxId: z.preprocess((value) => value || undefined, z.uuid().optional()),
  label: z.preprocess((value) => value || undefined, z.string().max(200).optional()),
  idempotencyKey: z.uuid(),
});

/** Remote servers: added by their URL. */
export function remoteServerRoutes(deps: Deps) {
  const { db, secretsKey } = deps;
  return new Hono<Env>()
    .get("/servers/remote", async (c) => page(c, TITLE, await formPage(c, {}, {})))
    .post("/servers/remote", async (c) => {
      const form = await formOf(c);
      const parsed = Form.safeParse(form);
      if (!parsed.success) throw new Invalid("The form is not whole: open it again");
      try {
        const entry = remoteEntry(form);
        const awaitsSignIn = form.account === "true";
        if (awaitsSignIn) mustTakeAccount(entry);
        const workspaceId = c.get("workspace").id;
        const request = { ...parsed.data, workspaceId, entry, form, awaitsSignIn };
        const { serverId } = await deployEntry(db, c.get("user"), request, secretsKey);
        return awaitsSignIn
          ? await signInPage(c, deps, { serverId, agentId: null }, {})
          : goTo(c, `/servers/${serverId}`);
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        return page(c, TITLE, await formPage(c, form, error.fields, error.message), 422);
      }
    });

  async function formPage(
    c: Context<Env>,
    form: Record<string, string>,
    mistakes: Record<string, string>,
    message?: string,
  ) {
    const toolboxes = await listToolboxes(db, c.get("user"), c.get("workspace").id);
    return (
      <RemoteServer
        values={form}
        mistakes={mistakes}
        message={message}
        idempotencyKey={z.uuid().safeParse(form.idempotencyKey).data ?? crypto.randomUUID()}
        {...placing(
          toolboxes,
          { memoryMiB: REMOTE_MEMORY_MIB, tier: "standard", transport: STDIO },
          {
            label: form.label || undefined,
          },
        )}
      />
    );
  }
}

const TITLE = "Add a remote server";
