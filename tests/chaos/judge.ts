/**
 * What must never be, judged from what was seen. Knows no engine and no clock of its own, so that a
 * test can show it a wrong history (`judge_test.ts`).
 */
import type { MadeCall } from "./workload.ts";

/** Something that must not be. */
export interface Violation {
  rule: string;
  detail: string;
}

/** A container, as an engine tells of it. */
export interface Sight {
  id: string;
  engine: string;
  serverId: string;
  generation: number;
  /** "shared", or the agent whose it is. */
  instance: string;
  startedMs: number;
}

/** A container that was seen, for as long as the harness runs. */
export interface Seen extends Sight {
  pid: number;
  isRunning: boolean;
  hasVolumes: boolean;
  /** When it was first not in its engine's list any more. */
  endedMs: number;
  /**
   * What the server wrote down, as far as it was not read yet; stays readable after its end. Null
   * before it was opened and after all of it was read.
   */
  ledger: Deno.FsFile | null;
  isRead: boolean;
}

/** A call and a container's life may be off by so much: an engine's list is looked at now and then. */
const SLACK_MS = 3000;

export class Judge {
  readonly violations: Violation[] = [];
  readonly containers = new Map<string, Seen>();
  /** Servers that must not start anything, by a person's will that their toolbox has carried out. */
  readonly atRest = new Map<string, { sinceMs: number; why: string }>();

  /** @param onViolation told of each once */
  constructor(readonly onViolation: (violation: Violation) => void = () => {}) {}

  violate(rule: string, detail: string): void {
    if (this.violations.some((each) => each.rule === rule && each.detail === detail)) return;
    this.violations.push({ rule, detail });
    this.onViolation({ rule, detail });
  }

  /** A container was started, or is there: the same one again changes nothing. */
  started(sight: Sight): Seen {
    const known = this.containers.get(sight.id);
    if (known) return known;
    const { serverId, generation, instance, startedMs } = sight;
    for (const other of this.containers.values()) {
      if (other.serverId !== serverId || other.instance !== instance) continue;
      if (other.engine !== sight.engine) {
        this.violate("one toolbox", `${serverId} ran on ${other.engine} and on ${sight.engine}`);
      }
      if (other.generation > generation && other.startedMs < startedMs) {
        this.violate(
          "no older generation after a newer",
          `${serverId}: generation ${generation} started ` +
            `${Math.round(startedMs - other.startedMs)} ms after generation ${other.generation}`,
        );
      }
    }
    const rest = this.atRest.get(serverId);
    if (rest && startedMs > rest.sinceMs) {
      this.violate("what rests stays at rest", `${serverId} was started though it ${rest.why}`);
    }
    const seen: Seen = {
      ...sight,
      pid: 0,
      isRunning: true,
      hasVolumes: false,
      endedMs: Infinity,
      ledger: null,
      isRead: false,
    };
    this.containers.set(sight.id, seen);
    return seen;
  }

  /** What runs on one engine at one moment. */
  runAtOnce(running: readonly Seen[]): void {
    const byPlace = new Map<string, Seen>();
    for (const seen of running) {
      const whose = `${seen.serverId} instance ${seen.instance}`;
      const place = `${whose} generation ${seen.generation}`;
      const other = byPlace.get(place);
      if (other) this.violate("one container", `${place}: ${other.id} and ${seen.id}`);
      byPlace.set(place, seen);
      const writer = seen.hasVolumes && byPlace.get(whose);
      if (writer) this.violate("one writer of a volume", `${whose}: ${writer.id} and ${seen.id}`);
      byPlace.set(whose, seen);
    }
  }

  /**
   * Each call ran as often as its caller was told, and was told of itself.
   * @param counts how often each token was written down
   * @returns calls of which that is not known: they may have run in a container nobody could look into
   */
  callsRanAsTold(calls: readonly MadeCall[], counts: ReadonlyMap<string, number>): number {
    const unread = [...this.containers.values()].filter((each) => !each.ledger && !each.isRead);
    let unknown = 0;
    for (const { token, serverId, sentMs, endedMs, outcome } of calls) {
      if (outcome.kind === "another's answer") {
        this.violate("a call gets its own answer", `${token}: ${outcome.why}`);
        continue;
      }
      const count = counts.get(token) ?? 0;
      const isRight = outcome.kind === "answered"
        ? count === 1
        : outcome.kind === "not made"
        ? count === 0
        : count <= 1;
      if (isRight) continue;
      const mayBeUnread = count === 0 &&
        unread.some((each) =>
          each.serverId === serverId && each.startedMs < endedMs + SLACK_MS &&
          each.endedMs > sentMs - SLACK_MS
        );
      if (mayBeUnread) unknown++;
      else {
        this.violate(
          "a call runs as often as it is told",
          `${token} ran ${count} times: ${JSON.stringify(outcome)}`,
        );
      }
    }
    return unknown;
  }

  /** What a server that answered wrote into its volume is there: no change took the volume away. */
  keptWhatWasWritten(slug: string, calls: readonly MadeCall[], volume: string): void {
    const lost = calls.filter(({ token, outcome }) =>
      outcome.kind === "answered" && !volume.includes(token)
    );
    if (lost.length > 0) {
      this.violate("a volume keeps what was written", `${slug} lost ${lost.length} lines`);
    }
  }

  /**
   * A server that nobody touched, and whose process no fault ended, runs on in its container.
   * @param before containers by server and instance, as of the round before
   * @param isExcused whether a server was touched, or struck
   */
  ranOn(
    before: ReadonlyMap<string, Running>,
    after: ReadonlyMap<string, Running>,
    isExcused: (serverId: string) => boolean,
    during: string,
  ): void {
    for (const [place, { serverId, container }] of before) {
      const now = after.get(place)?.container;
      if (now === container || isExcused(serverId)) continue;
      this.violate(
        "what nobody touched runs on",
        `${place} was in ${container.slice(0, 12)} and is in ${now?.slice(0, 12) ?? "none"} ` +
          `after ${during}`,
      );
    }
  }
}

/** A container that runs as it should. */
export interface Running {
  serverId: string;
  container: string;
}
