import { type Context, Hono } from "hono";
import { readCallBody } from "../models/call_bodies.ts";
import { callChoices, CallFilter, searchCalls, summarizeCalls } from "../models/call_search.ts";
import { getCall } from "../models/calls.ts";
import { getRetention } from "../models/retention.ts";
import { CallPage } from "../views/call.tsx";
import { type CallQuery, CallResults, Calls, GROUPS, queryOf } from "../views/calls.tsx";
import type { Deps, Env } from "./deps.ts";
import { live } from "./live.ts";
import { basePathOf, fragment, page } from "./render.tsx";

/** The log of a workspace's calls: searched, with what they took and how they ended. */
export function callRoutes(deps: Deps) {
  const { db } = deps;

  return new Hono<Env>()
    .get("/calls", async (c) => {
      const workspaceId = c.get("workspace").id, user = c.get("user");
      const results = await search(c);
      return page(
        c,
        "Calls",
        <Calls
          {...results}
          retention={await getRetention(db, user, workspaceId)}
          {...await callChoices(db, user, workspaceId)}
        />,
      );
    })
    .get("/calls/results", async (c) => {
      const results = await search(c);
      c.header("hx-replace-url", `${basePathOf(c)}/calls?${queryOf(results.query)}`);
      return fragment(c, <CallResults {...results} />);
    })
    .get("/calls/live", (c) =>
      live(
        c,
        deps,
        ({ table, workspace }) => table === "calls" && workspace === c.get("workspace").id,
        async () => [{ target: "#results", content: <CallResults {...await search(c)} /> }],
      ))
    .get("/calls/:id", async (c) => {
      const user = c.get("user"), call = await getCall(db, user, c.req.param("id"));
      return page(
        c,
        "Call",
        <CallPage
          call={call}
          body={await readCallBody(deps, user, call.id)}
          retention={await getRetention(db, user, c.get("workspace").id)}
          role={c.get("workspace").role}
        />,
      );
    });

  async function search(c: Context<Env>) {
    const asked = c.req.query();
    const query: CallQuery = {
      filter: CallFilter.parse({ ...asked, text: asked.q ?? "" }),
      by: GROUPS.find(({ by }) => by === asked.by)?.by ?? "tool",
      cursor: asked.before || null,
    };
    const of = [db, c.get("user"), c.get("workspace").id, query.filter] as const;
    const [found, summary] = await Promise.all([
      searchCalls(...of, { cursor: query.cursor }),
      summarizeCalls(...of, query.by),
    ]);
    return { query, found, ...summary };
  }
}
