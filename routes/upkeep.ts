import { Hono } from "hono";
import { removeExpired } from "../models/retention.ts";
import type { Deps, Env } from "./deps.ts";

/** A call of the schedule's works at most so long: an edge isolate's request lives little longer. */
const BUDGET_MS = 45_000;

/**
 * Where a schedule from outside, such as pg_cron, has removed what is kept no longer; a self-hosted start
 * does it by itself. Anybody may call it: it does what is due, by one at a time.
 */
export function upkeepRoutes(deps: Deps) {
  return new Hono<Env>().post("/schedule/upkeep", async (c) => {
    const removed = await removeExpired(deps, { budgetMs: BUDGET_MS, signal: c.req.raw.signal });
    return c.json({ removed }, 200, { "cache-control": "no-store" });
  });
}
