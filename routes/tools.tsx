import { type Context, Hono } from "hono";
import {
  approveDefinitions,
  type Kind,
  KINDS,
  type Pick,
  withdrawDefinitions,
} from "../models/definitions.ts";
import { Conflict, Invalid, NotFound } from "../models/errors.ts";
import { approveTools, withdrawApproval } from "../models/tools.ts";
import type { Deps, Env } from "./deps.ts";
import { showProblem } from "./problem.tsx";
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
        return approve(c, () => approveTools(db, user, id, waiting.map(parsePick)));
      }
      if (picks.length === 0) {
        throw new Invalid("No tool was selected. Go back and tick at least one");
      }
      if (body.act === "withdraw") {
        await withdrawApproval(db, user, id, picks.map(({ name }) => name));
        return goTo(c, `/servers/${id}/tools`, "withdrawn");
      }
      return approve(c, () => approveTools(db, user, id, picks));
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
      const kinds = picksByKind(chosen);
      if (act === "withdraw") {
        for (const [kind, picks] of kinds) {
          await withdrawDefinitions(db, user, id, kind, picks.map(({ name }) => name));
        }
        return goTo(c, `/servers/${id}/tools#definitions`, "withdrawn");
      }
      return approve(c, async () => {
        for (const [kind, picks] of kinds) await approveDefinitions(db, user, id, kind, picks);
      }, "#definitions");
    });
}

/** Leads to the page as it is now, where one is to be read again: the one that is open keeps what it showed. */
async function approve(c: Context<Env>, act: () => Promise<void>, part = "") {
  const path = `/servers/${c.req.param("id")}/tools${part}`;
  try {
    await act();
  } catch (error) {
    if (!(error instanceof Conflict)) throw error;
    const next = { name: "Read them", path };
    return showProblem(c, 409, "It changed meanwhile", `${error.message}.`, { next });
  }
  return goTo(c, path, "approved");
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
