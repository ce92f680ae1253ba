/**
 * The control path: enrolment, the pull of the desired set, and the reports. DTMA asks and the app
 * answers, so a toolbox behind NAT needs no open port for it. The app may be away for as long as it
 * likes: containers run on, and reports wait.
 */
import { v7 } from "uuid";
import { type AppClient, AppError } from "./app_client.ts";
import { type Desired, readDesired } from "./desired.ts";
import { isUnknownSignature, type KeyRotation } from "./key_rotation.ts";
import type { Log } from "./log.ts";
import {
  type Denial,
  EnrolResponse,
  type HostFacts,
  type ImageScan,
  type Observation,
  OVERTAKEN,
  type Refusal,
  type Report,
  type ReportedEvent,
  ReportResponse,
  type ResourceSample,
} from "./protocol.ts";
import { sleep } from "./waiting.ts";

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 30_000;

const POLL_WAIT_MS = 25_000;

/** An answer that needed no waiting and brings nothing new is not asked for again at once. */
const IDLE_DELAY_MS = 1000;

const TIMEOUT_MS = 30_000;
const SMALL_ANSWER_BYTES = 64 * 1024;
const DESIRED_LIMIT_BYTES = 32 * 1024 * 1024;

/** Changes within this time go out in one report. */
const COALESCE_MS = 100;

const EVENTS_LIMIT = 10_000;

/** While the app is away older samples are let go: a chart with a gap harms nobody. */
const SAMPLES_LIMIT = 2000;
const DENIALS_LIMIT = 1000;
const EVENTS_PER_REPORT = 1000;
/** Each has up to fifty findings. */
const SCANS_PER_REPORT = 20;
const REFUSALS_PER_REPORT = 1000;

/** Observations above this size, in characters, wait for the next report (one goes in any case). */
const REPORT_LENGTH = 1024 * 1024;

/** The app refuses this toolbox for good. Containers are left as they are. */
export class RevokedError extends Error {
  override name = "RevokedError";
}

/** Another DTMA with this toolbox's key started later, and is the toolbox from then on. */
export class OvertakenError extends Error {
  override name = "OvertakenError";
}

/** The enrolment token was not accepted, and asking again would not change it. */
export class EnrolmentError extends Error {
  override name = "EnrolmentError";
}

/** What an enrolled toolbox signs with: its id, and its Ed25519 key. */
export interface ToolboxKey {
  keyId: string;
  privateKey: string;
}

/**
 * Trades a single-use token for this toolbox's id. Tries until the app answers: the key is made and
 * kept before, so an answer that was lost is asked for again with the same key.
 * @throws {EnrolmentError} when the app refuses the token
 */
export async function enrol(
  client: AppClient,
  request: { token: string; publicKey: string; facts: () => Promise<HostFacts> },
  { signal, log }: { signal: AbortSignal; log: Log },
): Promise<EnrolResponse> {
  for (const delay = backOff();;) {
    try {
      const { token, publicKey } = request;
      const answer = await client.post(
        "/toolbox/enrol",
        { token, publicKey, facts: await request.facts() },
        { signal, timeoutMs: TIMEOUT_MS, limitBytes: SMALL_ANSWER_BYTES },
      );
      return EnrolResponse.parse(answer);
    } catch (error) {
      signal.throwIfAborted();
      if (isFinal(error)) {
        // Another version of the protocol: the token was not looked at.
        const advice = error.status === 426
          ? ""
          : ". Make a new enrolment token on the app's toolbox page";
        throw new EnrolmentError(error.message + advice);
      }
      log("warning", `Enrolment failed, will try again: ${messageOf(error)}`);
      await sleep(delay(), signal);
      signal.throwIfAborted();
    }
  }
}

export interface PullOptions {
  client: AppClient;
  key: ToolboxKey;
  facts: () => Promise<HostFacts>;
  /** Of this start, as in the reports. */
  epoch: string;
  /** Called with every new desired set, in order. */
  onDesired: (desired: Desired) => void;
  /** Called with the app's key of now at every answer. */
  onAppKey: (appPublicKey: string) => void;
  /** Called with each answer, after what it brought; or with why there was none. */
  onTurn?: (failure: string | null) => void;
  /** Changes this toolbox's key, or ends a change that was cut off. */
  rotation: Pick<KeyRotation, "rotate" | "settle">;
  log: Log;
  waitMs?: number;
}

/** Asks for the desired set, for ever: each answer comes as soon as something changes. */
export class DesiredPull {
  readonly #options: PullOptions;
  #haveVersion: string | null = null;
  #woken = new AbortController();

  constructor(options: PullOptions) {
    this.#options = options;
  }

  /** Asks again at once, with new facts, whether it waits for an answer or before the next try. */
  wake(): void {
    this.#woken.abort();
  }

  /**
   * Runs until `signal` is aborted.
   * @throws {RevokedError}
   * @throws {OvertakenError}
   */
  async run(signal: AbortSignal): Promise<void> {
    let delay = backOff();
    while (!signal.aborted) {
      this.#woken = new AbortController();
      const untilWoken = AbortSignal.any([signal, this.#woken.signal]);
      try {
        const isNew = await this.#pull(untilWoken, signal);
        this.#options.onTurn?.(null);
        delay = backOff();
        if (!isNew) await sleep(IDLE_DELAY_MS, untilWoken);
      } catch (error) {
        if (untilWoken.aborted) continue;
        if (error instanceof AppError && error.isRefusal) throw new RevokedError(error.said);
        if (error instanceof AppError && error.isFromApp && error.said === OVERTAKEN) {
          throw new OvertakenError(error.said);
        }
        if (isUnknownSignature(error)) await this.#settleKey(signal);
        this.#options.onTurn?.(messageOf(error));
        this.#options.log("warning", `Asking for work failed, will try again: ${messageOf(error)}`);
        await sleep(delay(), untilWoken);
      }
    }
  }

  /** @returns false when the app answered early and had nothing new */
  async #pull(signal: AbortSignal, stopping: AbortSignal): Promise<boolean> {
    const { client, key, facts, epoch, onDesired, onAppKey, waitMs = POLL_WAIT_MS } = this.#options;
    const body = { facts: await facts(), haveVersion: this.#haveVersion, waitMs, epoch };
    const startedMs = performance.now();
    const answer = await client.post("/toolbox/desired", body, {
      key,
      signal,
      timeoutMs: waitMs + TIMEOUT_MS,
      limitBytes: DESIRED_LIMIT_BYTES,
    });
    const desired = readDesired(answer);
    onAppKey(desired.appPublicKey);
    const isNew = desired.version !== this.#haveVersion;
    if (isNew) {
      onDesired(desired);
      this.#haveVersion = desired.version;
    }
    if (desired.rotateKey) await this.#options.rotation.rotate(stopping);
    if (!isNew) {
      return performance.now() - startedMs >= Math.min(waitMs, IDLE_DELAY_MS) / 2;
    }
    return true;
  }

  /** The app knows another key of ours, perhaps the next one. */
  async #settleKey(signal: AbortSignal): Promise<void> {
    try {
      await this.#options.rotation.settle(signal);
    } catch (error) {
      this.#options.log("warning", `The change of key is not settled: ${messageOf(error)}`);
    }
  }
}

export interface ReporterOptions {
  client: AppClient;
  key: ToolboxKey;
  /** New at every start; sorts after all before it, see {@link nextEpoch}. */
  epoch: string;
  log: Log;
}

/**
 * Sends what the reconciler sees. Of each server's observations only the newest counts; events are
 * all kept, in order, up to {@link EVENTS_LIMIT}. One report is under way at a time, and is sent
 * again, unchanged, until the app has it.
 */
export class Reporter {
  readonly #options: ReporterOptions;
  #sequence = 0;
  #observations = new Map<string, Observation>();
  #events: ReportedEvent[] = [];
  #removed = new Set<string>();
  #samples: ResourceSample[] = [];
  /** By server, host, port and reason. */
  #denials = new Map<string, Denial>();
  /** By server. */
  #scans = new Map<string, ImageScan>();
  /** By server, or by the account of an instance. */
  #refusals = new Map<string, Refusal>();
  #dropped = 0;
  #changed = Promise.withResolvers<void>();
  #unsent: Report | null = null;

  constructor(options: ReporterOptions) {
    this.#options = options;
  }

  observe(observation: Observation): void {
    // Set anew, so that who waits longest goes first.
    this.#observations.delete(observation.serverId);
    this.#observations.set(observation.serverId, observation);
    this.#changed.resolve();
  }

  event(event: ReportedEvent): void {
    this.#events.push(event);
    if (this.#events.length > EVENTS_LIMIT) this.#dropEvent();
    this.#changed.resolve();
  }

  removed(serverId: string): void {
    this.#observations.delete(serverId);
    this.#scans.delete(serverId);
    for (const [key, refusal] of this.#refusals) {
      if (refusal.serverId === serverId) this.#refusals.delete(key);
    }
    this.#removed.add(serverId);
    this.#changed.resolve();
  }

  sample(sample: ResourceSample): void {
    this.#samples.push(sample);
    if (this.#samples.length > SAMPLES_LIMIT) this.#samples.shift();
    this.#changed.resolve();
  }

  /** What a scanner found in a server's image; of each server the newest counts. */
  scanned(serverId: string, scan: ImageScan): void {
    this.#scans.set(serverId, scan);
    this.#changed.resolve();
  }

  /** A remote server refused a request; of each account the newest counts. */
  refused(refusal: Refusal): void {
    this.#refusals.set(refusal.account ?? refusal.serverId, refusal);
    this.#changed.resolve();
  }

  /** Counts what a server was refused; over {@link DENIALS_LIMIT} different ones are dropped. */
  denied(denial: Denial): void {
    const key = JSON.stringify([denial.serverId, denial.host, denial.port, denial.reason]);
    const before = this.#denials.get(key);
    if (!before && this.#denials.size >= DENIALS_LIMIT) return;
    this.#denials.set(key, { ...denial, count: denial.count + (before?.count ?? 0) });
    this.#changed.resolve();
  }

  /**
   * Sends until `signal` is aborted, and then for `flushMs` at most what is left.
   * @throws {RevokedError}
   */
  async run(signal: AbortSignal, flushMs = 3000): Promise<void> {
    // Not a race with a promise of the end: one that is pending keeps what each race leaves with it (320
    // bytes a report, measured with Deno 2.9).
    signal.addEventListener("abort", () => this.#changed.resolve(), { once: true });
    while (!signal.aborted) {
      await this.#changed.promise;
      await sleep(COALESCE_MS, signal);
      await this.#sendAll(signal);
    }
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), flushMs);
    await this.#sendAll(deadline.signal);
    clearTimeout(timer);
    const left = this.#events.length + this.#observations.size + this.#removed.size;
    if (this.#unsent || left > 0) {
      this.#options.log("warning", "Stopped with reports that the app has not accepted");
    }
  }

  async #sendAll(signal: AbortSignal): Promise<void> {
    const delay = backOff();
    while (!signal.aborted) {
      const report = this.#unsent ??= this.#take();
      if (!report) return;
      try {
        await this.#send(report, signal);
        this.#unsent = null;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof AppError && error.isRefusal) throw new RevokedError(error.said);
        const { log } = this.#options;
        if (error instanceof AppError && [400, 413, 422].includes(error.status)) {
          // It would be refused for ever, and hold up all after it.
          log("error", `The app cannot take report ${report.sequence}: ${error.said}`);
          this.#unsent = null;
          continue;
        }
        log("warning", `Reporting failed, will try again: ${messageOf(error)}`);
        await sleep(delay(), signal);
      }
    }
  }

  async #send(report: Report, signal: AbortSignal): Promise<void> {
    const { client, key, log } = this.#options;
    const answer = await client.post("/toolbox/report", report, {
      key,
      signal,
      timeoutMs: TIMEOUT_MS,
      limitBytes: SMALL_ANSWER_BYTES,
    });
    // Not accepted means seen before: the answer to an earlier try was lost.
    if (!ReportResponse.parse(answer).accepted) {
      log("info", `The app had report ${report.sequence} already`);
    }
  }

  #take(): Report | null {
    this.#changed = Promise.withResolvers();
    if (this.#dropped > 0) {
      this.#options.log(
        "error",
        `${this.#dropped} events were dropped: over ${EVENTS_LIMIT} wait for the app`,
      );
      this.#dropped = 0;
    }
    const observations: Observation[] = [];
    let length = 0;
    for (const [serverId, observation] of this.#observations) {
      length += JSON.stringify(observation).length;
      if (observations.length > 0 && length > REPORT_LENGTH) break;
      observations.push(observation);
      this.#observations.delete(serverId);
    }
    const events = this.#events.splice(0, EVENTS_PER_REPORT);
    const removed = [...this.#removed];
    this.#removed.clear();
    const samples = this.#samples.splice(0);
    const denials = [...this.#denials.values()];
    this.#denials.clear();
    const scans = [...this.#scans].slice(0, SCANS_PER_REPORT)
      .map(([serverId, scan]) => ({ serverId, scan }));
    for (const { serverId } of scans) this.#scans.delete(serverId);
    const refusals = [...this.#refusals.values()].slice(0, REFUSALS_PER_REPORT);
    for (const { serverId, account } of refusals) this.#refusals.delete(account ?? serverId);
    const size = observations.length + events.length + removed.length + samples.length +
      denials.length + scans.length + refusals.length;
    if (size === 0) return null;
    return {
      epoch: this.#options.epoch,
      sequence: this.#sequence++,
      observations,
      events,
      removed,
      samples,
      denials,
      scans,
      ...(refusals.length > 0 && { refusals }),
    };
  }

  /** The oldest that is no warning or error, else the oldest. */
  #dropEvent(): void {
    const info = this.#events.findIndex(({ level }) => level === "info");
    this.#events.splice(Math.max(info, 0), 1);
    this.#dropped++;
  }
}

/** A uuid v7 that sorts after `previous` even if the clock went back since. */
export function nextEpoch(previous: string | null): string {
  const epoch = v7();
  if (previous === null || epoch > previous) return epoch;
  return v7({ msecs: parseInt(previous.replaceAll("-", "").slice(0, 12), 16) + 1 });
}

/** Delays from half a second doubling to thirty, each with jitter so that toolboxes spread out. */
function backOff(): () => number {
  let ceilingMs = FIRST_DELAY_MS;
  return () => {
    const delayMs = ceilingMs * (0.5 + Math.random() / 2);
    ceilingMs = Math.min(2 * ceilingMs, LONGEST_DELAY_MS);
    return Math.max(delayMs, FIRST_DELAY_MS);
  };
}

/** The app itself said no to the token. */
function isFinal(error: unknown): error is AppError {
  return error instanceof AppError && error.isFromApp && error.status >= 400 &&
    error.status < 500 && error.status !== 408 && error.status !== 429;
}

function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, 500);
}
