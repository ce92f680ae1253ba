import { createMiddleware } from "hono/factory";
import type { Database, User } from "../models/db.ts";
import { WORKSPACE_FIELD } from "../views/form.tsx";
import { OtherWorkspace } from "../views/workspaces.tsx";
import { chooseWorkspace } from "./chosen_workspace.ts";
import type { Deps, Env } from "./deps.ts";
import { page } from "./render.tsx";

const ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}";
/** Addresses of what belongs to one workspace. */
const OWNED = new RegExp(`^/(servers|agents|toolboxes)/(${ID})(?:/|$)`);

const FORM = /^(application\/x-www-form-urlencoded|multipart\/form-data)\b/i;

/**
 * Which of a person's workspaces a request is about, when it is not the one that they chose last. An
 * address that names a server, an agent or a toolbox is about its workspace, and opening its page
 * switches to it. A form says which workspace it was made in: one that another tab switched away from is
 * not sent to the workspace that is open now. Behind requireWorkspace.
 */
export function workspaceOfRequest({ db, baseUrl }: Deps) {
  const basePath = baseUrl.pathname.replace(/\/+$/, "");
  return createMiddleware<Env>(async (c, next) => {
    const workspaces = c.get("workspaces");
    if (workspaces.length < 2) return await next();
    const owned = OWNED.exec(c.req.path.slice(basePath.length));
    const id = owned && await workspaceOf(db, c.get("user"), owned[1], owned[2]);
    const named = workspaces.find((workspace) => workspace.id === id);
    if (named && named.id !== c.get("workspace").id) {
      c.set("workspace", named);
      const isOpened = c.req.method === "GET" && !c.req.path.endsWith("/live");
      if (isOpened) chooseWorkspace(c, baseUrl, named.id);
    }
    if (c.req.method === "POST" && FORM.test(c.req.header("content-type") ?? "")) {
      const madeIn = (await c.req.formData()).get(WORKSPACE_FIELD);
      const other = workspaces.find((workspace) => workspace.id === madeIn);
      if (madeIn !== null && madeIn !== c.get("workspace").id) {
        const props = { open: c.get("workspace"), other };
        return page(c, "Another workspace", <OtherWorkspace {...props} />, 409);
      }
    }
    await next();
  });
}

async function workspaceOf(db: Database, user: User, table: string, id: string) {
  const [row] = await db.asUser(
    user,
    (sql) => sql<{ id: string }[]>`select workspace_id as id from ${sql(table)} where id = ${id}`,
  );
  return row?.id;
}
