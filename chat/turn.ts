/**
 * Works on a turn of a conversation: steps of the model, and the calls that it asks for, until it has
 * answered. All that came of it so far stands in rows, and the loop goes by those alone: so a turn that was
 * left to a person's word, broke off, or lost its replica is taken up by whoever comes next.
 */
import type { Changes } from "../models/changes.ts";
import { modelOfTurn, type OpenedModel } from "../models/chat_models.ts";
import {
  appendStep,
  type AskedCall,
  beginCall,
  beginStep,
  endCall,
  endStep,
  endWork,
  giveTokenBack,
  NotHeld,
  readWork,
  SEEN_EVERY_MS,
  takeToken,
  tellWork,
  type Told,
  waitForPerson,
  type Work,
} from "../models/conversation_work.ts";
import { putQuestions } from "../models/conversation_questions.ts";
import type { Step, ToolCall } from "../models/conversations.ts";
import type { Database, User } from "../models/db.ts";
import { parseExactly } from "../models/exact_json.ts";
import { errorFields, type Log } from "../models/log.ts";
import type { ModelReach } from "../models/model_reach.ts";
import type { SecretsKey } from "../models/secrets.ts";
import { mediaIn, MediaReader, takes } from "./media.ts";
import { messagesOf, since } from "./messages.ts";
import { cut, resultText } from "./result_text.ts";
import { limitOf, summarised } from "./summary.ts";
import type { BridgeAddress, Definition, Result, Toolbelt } from "./toolbelt.ts";
import { Trouble } from "./trouble.ts";

export interface ChatDeps {
  db: Database;
  changes: Changes;
  log: Log;
  secretsKey: SecretsKey;
  models: ModelReach;
  /** The bridge, which is asked as by any other client. */
  bridge: Pick<BridgeAddress, "url" | "fetch">;
  version: string;
}

// When they are first needed: the AI SDK and MCP's client take a quarter of a second to load, which who shows
// pages alone is spared.
const loadModel = () => import("./model.ts");
export const loadToolbelt = () => import("./toolbelt.ts");

/** So many steps a turn may have; a person can have it go on. */
export const STEPS_LIMIT = 40;
/** A step whose stream broke is asked for so often. */
const STEP_TRIES = 3;
/** A call may ask the person so often before it answers. */
const ROUNDS_LIMIT = 10;
/** Before a call is made again whose server asked for that alone. */
const AGAIN_MS = 1000;
/** What the model writes is kept at most so often. */
const WRITE_EVERY_MS = 200;

const CUT_SHORT = "The model wrote as much as it can in one answer. Say “go on” for the rest";
const STOPPED = new Error("The person stopped it");

/** Works on a turn that the worker holds, until its row says how it ended. Never throws. */
export async function runTurn(deps: ChatDeps, user: User, work: Work): Promise<void> {
  const { db, log } = deps;
  const stopped = new AbortController(), ended = new AbortController();
  const wakeUps = deps.changes.subscribe(({ conversation, table }) =>
    conversation === work.conversationId && table !== "conversation_steps"
  );
  const telling = (async () => {
    while (!ended.signal.aborted) {
      try {
        if (await tellWork(db, user, work)) stopped.abort(STOPPED);
      } catch (error) {
        if (ended.signal.aborted) return;
        if (error instanceof NotHeld) return stopped.abort(error);
        log.warn("A turn's row could not be written", errorFields(error));
      }
      await wakeUps.next(SEEN_EVERY_MS, ended.signal);
    }
  })();
  try {
    await answer(deps, user, work, stopped.signal);
  } catch (error) {
    await broken(error).catch((error) => {
      // Nobody waits for a turn that is gone; any other will be taken for lost.
      if (!(error instanceof NotHeld)) {
        log.error("A turn's end could not be written", errorFields(error));
      }
    });
  }
  ended.abort();
  wakeUps.close();
  await telling;

  async function broken(error: unknown) {
    if (error instanceof NotHeld || stopped.signal.reason instanceof NotHeld) return;
    if (stopped.signal.aborted) return await endWork(db, user, work, "stopped");
    if (error instanceof Trouble) return await endWork(db, user, work, "failed", error.message);
    log.error("A turn broke off", errorFields(error));
    await endWork(db, user, work, "failed", "Mooring failed: its log says why. Try again");
  }
}

async function answer(deps: ChatDeps, user: User, work: Work, signal: AbortSignal) {
  const { db, secretsKey } = deps;
  const settings = await modelOfTurn(db, secretsKey, work.turnId, work.worker);
  if (!settings) throw new Trouble("The workspace has no model. Name one on the workspace's page");
  const read = async () => {
    const told = await readWork(db, user, work);
    if (!told) throw new Trouble("The agent of this conversation is removed");
    return told;
  };
  let told = await read();
  const { workspaceId, agent } = told;
  const { id: tokenId, token } = await takeToken(db, user, { workspaceId, agentId: agent.id });
  const { bridge, version } = deps;
  const media = new MediaReader(db, user, work, takes(settings));
  let belt: Toolbelt | null = null;
  try {
    const { Toolbelt } = await loadToolbelt();
    const { transport } = settings;
    belt = await Toolbelt.open({ ...bridge, version, token, transport }, signal)
      .catch((error) => {
        signal.throwIfAborted();
        deps.log.error("The bridge could not be reached from the chat", errorFields(error));
        throw new Trouble("The agent's tools could not be reached. Try again");
      });
    for (let taken = 0, isCutShort = false;; told = await read()) {
      const last = told.turns.at(-1)!.steps.at(-1);
      const isWhole = last !== undefined && last.message !== null;
      if (isWhole && last.calls.length === 0) {
        return await endWork(db, user, work, "done", isCutShort ? CUT_SHORT : null);
      }
      if (isWhole && last.calls.some(({ state }) => state === "allowed")) {
        await makeCalls(deps, user, work, belt, last, signal);
        continue;
      }
      if (isWhole && last.calls.some(({ state }) => state === "asked" || state === "waiting")) {
        if (await waitForPerson(db, user, work)) return;
        continue;
      }
      if (taken++ === STEPS_LIMIT) {
        throw new Trouble(`It was stopped after ${STEPS_LIMIT} steps. Try again to let it go on`);
      }
      const n = (last?.n ?? -1) + (last && !isWhole ? 0 : 1);
      isCutShort = await takeStep(deps, user, work, { belt, settings, media, told, n, signal });
    }
  } finally {
    await belt?.close();
    await giveTokenBack(db, user, tokenId).catch((error) =>
      deps.log.warn("A token of the chat could not be given back", errorFields(error))
    );
  }
}

/** @returns whether the model wrote until it could write no more */
async function takeStep(
  deps: ChatDeps,
  user: User,
  work: Work,
  { belt, settings, media, told, n, signal }: {
    belt: Toolbelt;
    settings: OpenedModel;
    media: MediaReader;
    told: Told;
    n: number;
    signal: AbortSignal;
  },
): Promise<boolean> {
  const { db, models } = deps;
  const { isPassing, isRefusal, modelStep, openModel, troubleOf } = await loadModel();
  const summary = await summarised(deps, user, work, { settings, told, step: n, signal });
  const memory = { summary, limitChars: limitOf(settings) };
  for (let attempt = 1;; attempt++) {
    // Anew for each step: a server that was deployed since, or a tool that was approved, is there.
    const tools = await belt.tools(signal).catch((error) => {
      signal.throwIfAborted();
      deps.log.warn("The chat could not list an agent's tools", errorFields(error));
      throw new Trouble("The agent's tools could not be listed. Try again");
    });
    await beginStep(db, user, work, n);
    const given = await media.of(since(told.turns, summary, memory.limitChars));
    const written = new StepWriter((more) => appendStep(db, user, work, n, more));
    let outcome;
    try {
      outcome = await modelStep(openModel(settings, models.fetch), {
        instructions: told.agent.instructions,
        messages: messagesOf(told.turns, memory, given),
        tools,
        signal,
        onDelta: (delta) => written.add(delta),
      });
    } catch (error) {
      await written.finish();
      signal.throwIfAborted();
      if (attempt < STEP_TRIES && isPassing(error)) continue;
      // It may be a file that it does not take, or not this one: with words alone it can go on.
      if (given.size > 0 && isRefusal(error)) {
        deps.log.warn("A model refused files, and is asked without", { model: settings.model });
        media.giveUp();
        continue;
      }
      const trouble = troubleOf(error, settings);
      deps.log.warn("A model gave no answer", { trouble });
      throw new Trouble(trouble);
    }
    await written.finish();
    const { message, inputTokens, outputTokens } = outcome;
    const calls = await Promise.all(outcome.calls.map(async (call): Promise<AskedCall> => {
      const { callId, tool, mistake } = call, input = call.input ?? {};
      const asked = typeof input === "string" ? input : JSON.stringify(input);
      if (mistake !== null) {
        return { callId, tool, arguments: asked, state: "failed", told: mistake };
      }
      const isAsked = await asks(told, { belt, tools, signal }, tool, input);
      return { callId, tool, arguments: asked, state: isAsked ? "asked" : "allowed", told: null };
    }));
    await endStep(db, user, work, n, { message, calls, inputTokens, outputTokens });
    return outcome.isCutShort;
  }
}

/** Whether a call waits for a person: a tool is taken to only read where its approved definition says so. */
async function asks(
  { agent: { asks } }: Told,
  { belt, tools, signal }: { belt: Toolbelt; tools: Definition[]; signal: AbortSignal },
  tool: string,
  input: { name?: unknown },
): Promise<boolean> {
  if (asks !== "writes") return asks === "always";
  // With tool search the tool is named within. As it is now: what was found before may have changed since.
  const definition = tool === "call_tool"
    ? await belt.found(String(input.name), signal)
    : tools.find(({ name }) => name === tool);
  return definition?.annotations?.readOnlyHint !== true;
}

/** Makes a step's calls that are allowed, all at once. */
async function makeCalls(
  deps: ChatDeps,
  user: User,
  work: Work,
  belt: Toolbelt,
  { calls }: Step,
  signal: AbortSignal,
): Promise<void> {
  const made = await Promise.allSettled(
    calls.filter(({ state }) => state === "allowed")
      .map((call) => makeCall(deps, user, work, belt, call, signal)),
  );
  for (const one of made) if (one.status === "rejected") throw one.reason;
  signal.throwIfAborted();
}

async function makeCall(
  { db }: ChatDeps,
  user: User,
  work: Work,
  belt: Toolbelt,
  call: ToolCall,
  signal: AbortSignal,
): Promise<void> {
  const taken = await beginCall(db, user, work, call.id);
  if (!taken) return;
  const started = performance.now();
  const end = async (
    state: "done" | "failed" | "stopped",
    result: string | null,
    told: string,
    mediaTypes: string[] = [],
  ) => {
    const durationMs = performance.now() - started;
    await endCall(db, user, work, call.id, { state, result, told, mediaTypes, durationMs });
  };
  let result: Result | null = null;
  try {
    let { answered, round } = taken;
    while (!result) {
      const outcome = await belt.call(call.tool, argumentsOf(call), answered, signal);
      if ("result" in outcome) result = outcome.result;
      else if (round++ === ROUNDS_LIMIT) {
        throw new Error(`Its server asked ${ROUNDS_LIMIT} times, and had no answer yet`);
      } else if (outcome.asked.length > 0) {
        const { asked: questions, requestState } = outcome;
        const tool = calledTool(call);
        return await putQuestions(db, user, work, call.id, { tool, requestState, questions });
      } else {
        answered = { requestState: outcome.requestState, inputResponses: {} };
        await abortableDelay(AGAIN_MS, signal);
      }
    }
  } catch (error) {
    if (error instanceof NotHeld) throw error;
    if (signal.aborted) return await end("stopped", null, "The person stopped it. It may have run");
    // The model reads it, and may try in another way.
    const message = error instanceof Error ? error.message : String(error);
    return await end("failed", null, cut(`The call failed: ${message}`));
  }
  const mediaTypes = mediaIn(result.content).map(({ mediaType }) => mediaType);
  const state = result.isError ? "failed" : "done";
  await end(state, JSON.stringify(result), resultText(result), mediaTypes);
}

/** With tool search the tool is named within. */
function calledTool(call: ToolCall): string {
  const { name } = argumentsOf(call);
  return call.tool === "call_tool" && typeof name === "string" ? name : call.tool;
}

function argumentsOf({ arguments: text }: ToolCall): Record<string, unknown> {
  const args = parseExactly(text);
  if (typeof args === "object" && args !== null && !Array.isArray(args)) {
    return args as Record<string, unknown>;
  }
  throw new Error("The arguments are no object");
}

async function abortableDelay(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  signal.addEventListener("abort", () => resolve(), { once: true });
  await promise;
  clearTimeout(timer);
  signal.throwIfAborted();
}

/** Keeps what a model writes, in few writes, one behind the other. */
class StepWriter {
  #reasoning = "";
  #text = "";
  #timer: ReturnType<typeof setTimeout> | undefined;
  #writing: Promise<void> = Promise.resolve();
  #failure: unknown = null;

  constructor(
    private readonly write: (more: { reasoning: string; text: string }) => Promise<void>,
  ) {}

  add({ reasoning = "", text = "" }: { reasoning?: string; text?: string }) {
    this.#reasoning += reasoning;
    this.#text += text;
    this.#timer ??= setTimeout(() => this.#flush(), WRITE_EVERY_MS);
  }

  /** Writes what is left. @throws what a write failed with */
  async finish() {
    this.#flush();
    await this.#writing;
    if (this.#failure) throw this.#failure;
  }

  #flush() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const more = { reasoning: this.#reasoning, text: this.#text };
    if (more.reasoning === "" && more.text === "") return;
    this.#reasoning = this.#text = "";
    this.#writing = this.#writing.then(() => this.write(more)).catch((error) => {
      this.#failure ??= error;
    });
  }
}
