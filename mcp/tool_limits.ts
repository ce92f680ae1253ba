/**
 * How often an agent may call a tool, as its connection says ({@link CallLimits}). In memory, as limits.ts: a
 * replica guards itself, so of two an agent may get twice as much.
 */
import type { CallLimits } from "../models/connection_options.ts";
import { shown, TooMany } from "./revisions.ts";

const MINUTE_MS = 60_000;
/** What sums of fractions of a minute may be off by: less than a hundredth of the shortest of them. */
const ROUNDING_MS = 0.005;

interface Use {
  underWay: number;
  /**
   * A token bucket, as the time by which it is full again: each call puts that off by its share of a minute,
   * and to no more than a minute from now. So what was used counts at any rate, should a person change it.
   */
  fullAt: number;
}

export interface ToolLimits {
  /**
   * Counts a call in. One that goes on with what its client was asked counts again: it could be sent any
   * number of times.
   *
   * @param tool by the names of its server
   * @param calledName what the agent calls it
   * @returns the way to count it out, once
   * @throws {TooMany} nothing was counted
   */
  begin(
    agentId: string,
    tool: { serverId: string; name: string },
    limits: CallLimits,
    calledName: string,
  ): () => void;
}

/** The limits of one replica. @param now milliseconds of a clock that does not jump */
export function toolLimits(now: () => number = () => performance.now()): ToolLimits {
  const uses = new Map<string, Use>();
  let sweptAt = now();

  function useOf(key: string, at: number): Use {
    let use = uses.get(key);
    if (!use) {
      if (at - sweptAt > MINUTE_MS) forgetIdle(at);
      uses.set(key, use = { underWay: 0, fullAt: at });
    }
    return use;
  }

  /** What is forgotten begins as it is: with a full bucket and nothing under way. */
  function forgetIdle(at: number) {
    sweptAt = at;
    for (const [key, use] of uses) {
      if (use.underWay === 0 && use.fullAt <= at) uses.delete(key);
    }
  }

  return {
    begin(agentId, { serverId, name }, { perMinute, atOnce }, calledName) {
      const at = now();
      const use = useOf(`${agentId} ${serverId} ${name}`, at);
      const tool = shown(calledName);
      if (atOnce !== undefined && use.underWay >= atOnce) {
        throw new TooMany(
          `This agent may have ${calls(atOnce)} of the tool ${tool} under way at once. ` +
            "Call it again when one has ended",
          1,
        );
      }
      if (perMinute !== undefined) {
        const fullAt = Math.max(use.fullAt, at) + MINUTE_MS / perMinute;
        const waitMs = fullAt - at - MINUTE_MS - ROUNDING_MS;
        if (waitMs > 0) {
          const retryAfterS = Math.ceil(waitMs / 1000);
          throw new TooMany(
            `This agent may make ${calls(perMinute)} a minute of the tool ${tool}. ` +
              `Call it again after ${retryAfterS} s`,
            retryAfterS,
          );
        }
        use.fullAt = fullAt;
      }
      use.underWay++;
      return () => void use.underWay--;
    },
  };
}

function calls(count: number): string {
  return count === 1 ? "1 call" : `${count} calls`;
}
