import { createMiddleware } from "hono/factory";
import { workspacesOf } from "../models/workspaces.ts";
import { NoWorkspace } from "../views/workspaces.tsx";
import { chosenWorkspace } from "./chosen_workspace.ts";
import type { Deps, Env } from "./deps.ts";
import { showProblem } from "./problem.tsx";
import { basePathOf, page } from "./render.tsx";

/**
 * Lets only signed-in people pass. A page sends others to sign in and back; a stream or a part of a
 * page answers 401, since a redirect would put the sign-in page inside the one that is open.
 *
 * Their workspace is the one they chose, as long as they are in it, or their oldest.
 */
export function requireUser({ db, identity, baseUrl }: Deps) {
  return createMiddleware<Env>(async (c, next) => {
    const person = await identity.userOf(c.req.raw.headers);
    if (!person) {
      const isPage = c.req.method === "GET" && !c.req.header("hx-request") &&
        !c.req.path.endsWith("/live");
      if (!isPage) {
        if (c.req.method !== "POST" || c.req.header("hx-request")) {
          return c.text("Sign in first", 401);
        }
        const message = "Your session is over, so nothing was done. Sign in in another tab, then " +
          "reload this page: what you typed is sent once more.";
        return showProblem(c, 401, "You are signed out", message);
      }
      const base = basePathOf(c);
      if (!await identity.hasAccounts()) return c.redirect(`${base}/setup`, 303);
      const { pathname, search } = new URL(c.req.url);
      const back = encodeURIComponent(pathname.slice(base.length) + search);
      return c.redirect(`${base}/sign-in${back === "%2F" ? "" : `?next=${back}`}`, 303);
    }
    c.set("user", person);
    const workspaces = await workspacesOf(db, person);
    const chosen = chosenWorkspace(c, baseUrl);
    const workspace = workspaces.find(({ id }) => id === chosen) ?? workspaces[0];
    c.set("workspaces", workspaces);
    if (workspace) c.set("workspace", workspace);
    await next();
  });
}

/** Lets only those pass who are in a workspace; others may make one. Behind {@link requireUser}. */
export function requireWorkspace() {
  return createMiddleware<Env>(async (c, next) => {
    if (!c.get("workspace")) return page(c, "No workspace", <NoWorkspace />, 403);
    await next();
  });
}
