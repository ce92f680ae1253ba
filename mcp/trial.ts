/**
 * A person's trial of a tool. The call is this replica's; all else of it (its progress, the questions of
 * its server and their answers, that it was cancelled) goes through its row, so that any replica shows
 * it and takes the person's word.
 */
import type { Changes } from "../models/changes.ts";
import type { Database, User } from "../models/db.ts";
import { errorFields, type Log } from "../models/log.ts";
import {
  endTrialRun,
  type Progress,
  type Question,
  SEEN_EVERY_MS,
  tellTrialRun,
} from "../models/trial_runs.ts";
import type { Outlet } from "./exchange.ts";
import { randomText } from "./questions.ts";
import { STATE_MS } from "./request_state.ts";
import { ErrorCode } from "../dtma/protocol.ts";
import { isObject } from "./revisions.ts";
import { type Answer, failure } from "./router.ts";
import { type ToolCallDeps, tryTool } from "./tool_call.ts";

export interface TrialDeps extends ToolCallDeps {
  db: Database;
  changes: Changes;
  log: Log;
}

/** Progress is told at most so often. */
const PROGRESS_MS = 250;
/** JSON-RPC's own code for what a side does not have. */
const METHOD_NOT_FOUND = -32601;

/** Works on a run until it has ended, which its row then says. Never throws. */
export async function runTrial(
  deps: TrialDeps,
  user: User,
  run: { id: string; serverId: string; tool: string; args: Record<string, unknown> },
): Promise<void> {
  const { db, log } = deps;
  const cancelled = new AbortController(), ended = new AbortController();
  const wakeUps = deps.changes.subscribe(({ run: id }) => id === run.id);
  const started = performance.now();
  const open = new Map<string, { question: Question; settle: (answer: Answer) => void }>();
  const refused: string[] = [];
  let progress: Progress | null = null;
  let progressTimer: ReturnType<typeof setTimeout> | undefined;

  /** One after the other, so that what is written last is the newest. */
  let telling: Promise<void> = Promise.resolve();
  const tell = (news: () => Parameters<typeof tellTrialRun>[3]) =>
    telling = telling.then(async () => {
      if (ended.signal.aborted) return;
      const heard = await tellTrialRun(db, user, run.id, news());
      if (!heard || heard.cancelAsked) cancelled.abort(new Error("The person cancelled the run"));
      for (const [id, answer] of Object.entries(heard?.answers ?? {})) {
        open.get(id)?.settle({ kind: "result", text: answer });
      }
    }).catch((error) => log.warn("A trial's row could not be written", errorFields(error)));

  const questions = () => ({ questions: [...open.values()].map(({ question }) => question) });

  const ask: NonNullable<Outlet["ask"]> = async (method, paramsText, signal) => {
    const params: unknown = JSON.parse(paramsText);
    if (method !== "elicitation/create" || !isObject(params)) {
      if (refused.length < 20) refused.push(method.slice(0, 100));
      tell(() => ({ refused }));
      return failure(METHOD_NOT_FOUND, "A person's page cannot do this");
    }
    const id = randomText();
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const onAbort = () => reject(signal.reason);
    const timer = setTimeout(
      () => resolve(failure(ErrorCode.timedOut, "Nobody answered in time")),
      STATE_MS,
    );
    signal.addEventListener("abort", onAbort, { once: true });
    open.set(id, { question: { id, params }, settle: resolve });
    tell(questions);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      open.delete(id);
      tell(questions);
    }
  };

  const onNotification = (text: string) => {
    const { method, params } = JSON.parse(text);
    if (method !== "notifications/progress" || !isObject(params)) return;
    progress = progressIn(params);
    progressTimer ??= setTimeout(() => {
      progressTimer = undefined;
      if (progress) tell(() => ({ progress: progress! }));
    }, PROGRESS_MS);
  };

  const listening = (async () => {
    while (!ended.signal.aborted) {
      await wakeUps.next(SEEN_EVERY_MS, ended.signal);
      await tell(() => ({}));
    }
  })();

  let outcome: Parameters<typeof endTrialRun>[3] = null;
  try {
    const trial = { serverId: run.serverId, name: run.tool, args: run.args };
    outcome = await tryTool(deps, user, trial, cancelled.signal, { ask, onNotification });
  } catch (error) {
    if (!cancelled.signal.aborted) {
      log.error("A trial broke off", errorFields(error));
      outcome = {
        error: { code: ErrorCode.indeterminate, message: "Mooring failed: see its log" },
      };
    }
  }
  clearTimeout(progressTimer);
  ended.abort();
  wakeUps.close();
  await Promise.all([telling, listening]);
  await endTrialRun(db, user, run.id, outcome, performance.now() - started)
    .catch((error) => log.error("A trial's end could not be written", errorFields(error)));
}

function progressIn({ progress, total, message }: Record<string, unknown>): Progress {
  return {
    progress: Number(progress) || 0,
    ...(typeof total === "number" ? { total } : {}),
    ...(typeof message === "string" ? { message: message.slice(0, 2000) } : {}),
  };
}
