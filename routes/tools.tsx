import { Hono } from "hono";
import {
  approveDefinitions,
  type Kind,
  KINDS,
  type Pick,
  withdrawDefinitions,
} from "../models/definitions.ts";
import { Invalid, NotFound } from "../models/errors.ts";
import { approveTools, withdrawApproval } from "../models/tools.ts";
import type { Deps, Env } from "./deps.ts";
import { goTo } from "./render.tsx";

/** A server's tools: approve what was read, take it back. */
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
        return goTo(c, `/servers/${id}/tools`, "approved");
      }
      if (picks.length === 0) {
        throw new Invalid("No tool was selected. Go back and tick at least one");
      }
      if (body.act === "withdraw") {
        await withdrawApproval(db, user, id, picks.map(({ name }) => name));
        return goTo(c, `/servers/${id}/tools`, "withdrawn");
      }
      await approveTools(db, user, id, picks);
      return goTo(c, `/servers/${id}/tools`, "approved");
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
      return goTo(c, `/servers/${id}/tools#definitions`, said);
    });
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
