import { type Context, Hono } from "hono";
import { tryTool } from "../mcp/tool_call.ts";
import {
  approveDefinitions,
  type Kind,
  KINDS,
  type Pick,
  withdrawDefinitions,
} from "../models/definitions.ts";
import { Conflict, Invalid, NotFound } from "../models/errors.ts";
import { getServer } from "../models/servers.ts";
import { approveTools, getTool, withdrawApproval } from "../models/tools.ts";
import { type Outcome, Trial, TrialPage } from "../views/trial.tsx";
import type { Deps, Env } from "./deps.ts";
import { formOf, fragment, goTo, page } from "./render.tsx";
import { argumentsOf, trialFields } from "./trial_form.ts";

/** A server's tools: approve what was read, take it back, try one. */
export function toolRoutes(deps: Deps) {
  const { db } = deps;

  return new Hono<Env>()
    .post("/servers/:id/tools", async (c) => {
      const id = c.req.param("id"), user = c.get("user");
      const body = await c.req.parseBody({ all: true });
      const picks = [body.pick ?? []].flat().filter((pick) => typeof pick === "string").map(
        parsePick,
      );
      if (body.act === "approve-all") {
        // All that waited when the page was made: their hashes came with it.
        const waiting = [body.waiting ?? []].flat().filter((pick) => typeof pick === "string");
        await approveTools(db, user, id, waiting.map(parsePick));
        return goTo(c, `/servers/${id}#tools`, "approved");
      }
      if (picks.length === 0) {
        throw new Invalid("No tool was selected. Go back and tick at least one");
      }
      if (body.act === "withdraw") {
        await withdrawApproval(db, user, id, picks.map(({ name }) => name));
        return goTo(c, `/servers/${id}#tools`, "withdrawn");
      }
      await approveTools(db, user, id, picks);
      return goTo(c, `/servers/${id}#tools`, "approved");
    })
    .post("/servers/:id/definitions", async (c) => {
      const id = c.req.param("id"), user = c.get("user");
      const { act, pick = [], waiting = [] } = await c.req.parseBody({ all: true });
      // All that waited when the page was made: their hashes came with it.
      const chosen = [act === "approve-all" ? waiting : pick].flat()
        .filter((each) => typeof each === "string");
      if (chosen.length === 0) {
        throw new Invalid("Nothing was selected. Go back and tick at least one");
      }
      for (const [kind, picks] of picksByKind(chosen)) {
        if (act === "withdraw") {
          await withdrawDefinitions(db, user, id, kind, picks.map(({ name }) => name));
        } else await approveDefinitions(db, user, id, kind, picks);
      }
      const said = act === "withdraw" ? "withdrawn" : "approved";
      return goTo(c, `/servers/${id}#definitions`, said);
    })
    .get("/servers/:id/tools/:name", async (c) => {
      const props = await load(c);
      return page(c, `Try ${props.tool.name}`, <TrialPage {...props} values={{}} mistakes={{}} />);
    })
    .post("/servers/:id/tools/:name", async (c) => {
      const props = await load(c);
      const values = await formOf(c);
      const show = (
        more: { mistakes?: Record<string, string>; mistake?: string; outcome?: Outcome },
        status: 200 | 422,
      ) => {
        const all = { ...props, values, mistakes: {}, ...more };
        return c.req.header("hx-request")
          ? fragment(c, <Trial {...all} />, status)
          : page(c, `Try ${props.tool.name}`, <TrialPage {...all} />, status);
      };
      try {
        const args = argumentsOf(props.fields, values);
        const started = performance.now();
        const trial = { serverId: props.server.id, name: props.tool.name, args };
        const answer = await tryTool(deps, c.get("user"), trial, c.req.raw.signal);
        return show({ outcome: { ...answer, durationMs: performance.now() - started } }, 200);
      } catch (error) {
        if (error instanceof Invalid) {
          return show({ mistakes: error.fields, mistake: error.message }, 422);
        }
        if (error instanceof Conflict) return show({ mistake: error.message }, 422);
        throw error;
      }
    });

  async function load(c: Context<Env, "/servers/:id/tools/:name">) {
    const user = c.get("user");
    const server = await getServer(db, user, c.req.param("id"));
    const tool = await getTool(db, user, server.id, c.req.param("name"));
    return { server, tool, fields: trialFields(tool.definition.inputSchema) };
  }
}

/** Out of `kind hash name`, as the checkboxes of all but tools carry it. */
function picksByKind(chosen: string[]): Map<Kind, Pick[]> {
  const picks = new Map<Kind, Pick[]>();
  for (const each of chosen) {
    const kind = KINDS.find((kind) => kind !== "tool" && each.startsWith(`${kind} `));
    if (!kind) throw new NotFound("The server lists no such thing");
    picks.set(kind, [...picks.get(kind) ?? [], parsePick(each.slice(kind.length + 1))]);
  }
  return picks;
}

/** `hash name`, as the checkboxes carry it. */
function parsePick(pick: string): { name: string; hash: string } {
  const space = pick.indexOf(" ");
  if (space < 0) throw new NotFound("The server has no such tool");
  return { hash: pick.slice(0, space), name: pick.slice(space + 1) };
}
