import { type Context, Hono } from "hono";
import { runTrial } from "../mcp/trial.ts";
import { Conflict, Invalid, NotFound } from "../models/errors.ts";
import { getServer } from "../models/servers.ts";
import { toolForTrial } from "../models/toolbelts.ts";
import { getTool } from "../models/tools.ts";
import {
  answerTrialRun,
  cancelTrialRun,
  clearTrialRuns,
  getTrialRun,
  listTrialRuns,
  startTrialRun,
  type TrialRun,
} from "../models/trial_runs.ts";
import { Trial, TrialPage, type TrialProps } from "../views/trial.tsx";
import type { AskedQuestion } from "../views/question.tsx";
import {
  History,
  questionIds,
  RunHead,
  RunOutcome,
  runPath,
  RunQuestions,
  trialPath,
} from "../views/trial_run.tsx";
import { visibleText } from "../views/visible_text.ts";
import { answerOf, askedQuestion, valuesOf } from "./asked_question.ts";
import type { Deps, Env } from "./deps.ts";
import { keepAlive } from "./keep_alive.ts";
import { live } from "./live.ts";
import { basePathOf, fragment, goTo, page } from "./render.tsx";
import { argumentsOf, changed, filledForm, formFor, type Values } from "./schema_form.ts";

/** A call that ends within it is answered on the first page, which needs no script then. */
const FIRST_PAGE_MS = 1500;

/** Trying a server's tools, each try a run with a page of its own. */
export function trialRoutes(deps: Deps) {
  const { db } = deps;
  type At<Path extends string> = Context<Env, Path>;

  return new Hono<Env>()
    .get("/servers/:id/tools/:name", async (c) => {
      const again = c.req.query("again");
      const run = again ? await runOf(c, again) : null;
      return await show(c, await load(c), { args: run?.arguments ?? undefined });
    })
    .post("/servers/:id/tools/:name", async (c) => {
      const at = await load(c);
      const { act, ...values } = await valuesOf(c);
      try {
        if (act !== undefined) return await show(c, at, acted(at.schema, values, act));
        const { part, values: filled } = formFor(at.schema, values);
        const args = argumentsOf(part, filled);
        // Whoever may not try it, or has to approve it first, hears so before a run begins.
        await toolForTrial(db, c.get("user"), at.server.id, at.tool.name);
        const started = { serverId: at.server.id, tool: at.tool.name, args };
        const id = await startTrialRun(db, c.get("user"), started);
        const running = runTrial(deps, c.get("user"), { id, ...started });
        keepAlive(running);
        await firstNews(running, c, id);
        const path = runPath({ ...started, id });
        if (!c.req.header("hx-request")) return goTo(c, path);
        c.header("hx-push-url", basePathOf(c) + path);
        return await show(c, at, { values, run: await getTrialRun(db, c.get("user"), id) });
      } catch (error) {
        if (error instanceof Invalid) {
          return await show(c, at, { values, mistakes: error.fields, mistake: error.message }, 422);
        }
        if (error instanceof Conflict) {
          return await show(c, at, { values, mistake: error.message }, 422);
        }
        throw error;
      }
    })
    .post("/servers/:id/tools/:name/runs/clear", async (c) => {
      const { id, name } = c.req.param();
      await clearTrialRuns(db, c.get("user"), id, name);
      return goTo(c, trialPath(id, name), "runs-cleared");
    })
    .get("/servers/:id/tools/:name/runs/:run", async (c) => {
      const run = await runOf(c);
      return await show(c, await load(c), { args: run.arguments ?? undefined, run });
    })
    .get("/servers/:id/tools/:name/runs/:run/live", (c) => {
      const { id, name, run: runId } = c.req.param();
      let asked = c.req.query("questions") ?? "";
      return live(c, deps, (change) => change.run === runId, async () => {
        const run = await runOf(c).catch((error) => {
          if (error instanceof NotFound) return null;
          throw error;
        });
        if (!run) return null;
        const past = await listTrialRuns(db, c.get("user"), id, name);
        const parts = [
          { target: "#run-head", content: <RunHead run={run} /> },
          { target: "#run-outcome", content: <RunOutcome run={run} /> },
          {
            target: "#history",
            content: <History serverId={id} tool={name} runs={past} shown={runId} />,
          },
        ];
        // Only when there are others: what a person types, and what was wrong with it, stays.
        if (questionIds(run) === asked) return parts;
        asked = questionIds(run);
        const questions = run.questions.map((each) => askedQuestion(each));
        const content = <RunQuestions run={run} questions={questions} />;
        return [...parts, { target: "#run-questions", content }];
      });
    })
    .post("/servers/:id/tools/:name/runs/:run/cancel", async (c) => {
      const run = await runOf(c);
      await cancelTrialRun(db, c.get("user"), run.id);
      await settled(c, run.id, ({ state }) => state !== "running");
      return goTo(c, runPath(run));
    })
    .post("/servers/:id/tools/:name/runs/:run/answers/:question", async (c) => {
      const user = c.get("user"), id = c.req.param("question");
      const run = await runOf(c);
      const values = await valuesOf(c);
      const question = run.questions.find((question) => question.id === id);
      if (!question) throw new Conflict("The server waits for this answer no longer");
      const told = answerOf(question, values);
      if ("again" in told) {
        const { again, status } = told;
        const shown = { args: run.arguments ?? undefined, run };
        if (!c.req.header("hx-request")) {
          return await show(c, { ...await load(c), asked: again }, shown, status);
        }
        const questions = run.questions.map((each) =>
          each === question ? again : askedQuestion(each)
        );
        return fragment(c, <RunQuestions run={run} questions={questions} />, status);
      }
      await answerTrialRun(db, user, run.id, id, told.answer);
      await settled(
        c,
        run.id,
        ({ state, questions }) =>
          state !== "running" || !questions.some((question) => question.id === id),
      );
      return goTo(c, runPath(run));
    });

  async function load(c: At<"/servers/:id/tools/:name">) {
    const user = c.get("user");
    const server = await getServer(db, user, c.req.param("id"));
    const tool = await getTool(db, user, server.id, c.req.param("name"));
    return { server, tool, schema: tool.definition.inputSchema };
  }

  /** @throws {NotFound} no such run of this tool */
  async function runOf(c: Context<Env>, runId = c.req.param("run")!): Promise<TrialRun> {
    const run = await getTrialRun(db, c.get("user"), runId);
    if (run.serverId !== c.req.param("id") || run.tool !== c.req.param("name")) {
      throw new NotFound("There is no such run");
    }
    return run;
  }

  /** @param shown the form's values as they were typed, or the arguments to fill it with */
  async function show(
    c: Context<Env>,
    { server, tool, schema, asked: one }: Awaited<ReturnType<typeof load>> & {
      asked?: AskedQuestion;
    },
    shown: {
      values?: Values;
      args?: Record<string, unknown>;
      run?: TrialRun;
    } & Partial<Pick<TrialProps, "mistakes" | "mistake" | "note">>,
    status: 200 | 422 = 200,
  ) {
    const { values, args, run, ...more } = shown;
    const form = args === undefined ? formFor(schema, values ?? {}) : filledForm(schema, args);
    const props: TrialProps = {
      server,
      tool,
      ...form,
      mistakes: {},
      ...more,
      run: run
        ? {
          run,
          questions: run.questions.map((question) =>
            question.id === one?.question.id ? one : askedQuestion(question)
          ),
        }
        : null,
      past: await listTrialRuns(db, c.get("user"), server.id, tool.name),
    };
    if (!c.req.header("hx-request")) {
      return page(c, `Try ${visibleText(tool.name)}`, <TrialPage {...props} />, status);
    }
    const history = { serverId: server.id, tool: tool.name, runs: props.past, shown: run?.id };
    return fragment(
      c,
      <>
        <Trial {...props} />
        <hx-partial hx-target="#history" hx-swap="outerMorph">
          <History {...history} />
        </hx-partial>
      </>,
      status,
    );
  }

  /** Waits a moment for what the first page should have: the end, or a question. */
  async function firstNews(running: Promise<void>, c: Context<Env>, id: string) {
    let hasEnded = false;
    running.then(() => hasEnded = true);
    await settled(c, id, ({ questions }) => hasEnded || questions.length > 0);
  }

  async function settled(c: Context<Env>, id: string, holds: (run: TrialRun) => boolean) {
    const until = performance.now() + FIRST_PAGE_MS;
    const wakeUps = deps.changes.subscribe((change) => change.run === id);
    try {
      for (;;) {
        const left = until - performance.now();
        const run = await getTrialRun(db, c.get("user"), id);
        if (run.state !== "running" || holds(run) || left <= 0) return;
        await wakeUps.next(left, c.req.raw.signal);
      }
    } finally {
      wakeUps.close();
    }
  }
}

/** What a button of the form comes to. @throws {Invalid} what it needs does not hold */
function acted(schema: unknown, values: Values, act: string): {
  values?: Values;
  args?: Record<string, unknown>;
  note?: string;
} {
  const { raw, ...fields } = values;
  if (act === "write") {
    const { part, values: filled } = formFor(schema, fields);
    const written = JSON.stringify(argumentsOf(part, filled), null, 2);
    return { values: { ...values, raw: written } };
  }
  if (act !== "fill") return { values: changed(values, act) };
  if (!raw?.trim()) throw new Invalid("Write the JSON first", { raw: "There is nothing here yet" });
  const args = argumentsOf(formFor(schema, values).part, values);
  const { values: filled } = filledForm(schema, args);
  return {
    args,
    note: filled.raw === undefined
      ? "The fields are filled from the JSON."
      : "The fields cannot hold all of this JSON as it is, so it stays and is what is sent.",
  };
}
