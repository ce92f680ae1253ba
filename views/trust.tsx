import type { Control } from "../models/hardening.ts";
import type { Trust } from "../models/trust.ts";
import { count, Time, tokens } from "./parts.tsx";
import { tokensOf } from "./token_cost.ts";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** Signs beside words: colour and sign are never the only difference. */
const SIGNS = {
  good: ["✓", "Speaks for it"],
  neutral: ["·", "Neither way"],
  caution: ["!", "Think about it"],
  unknown: ["?", "Not known"],
} as const;

/** What is known of an entry or a server by which to trust it. */
export function TrustPanel({ trust, bomOf }: {
  trust: Trust;
  /** The server whose bill of materials is kept. */
  bomOf?: string;
}) {
  const url = useUrl();
  const { facts, controls, origin, tools } = trust;
  return (
    <section class="card trust" id="trust" aria-labelledby="trust-title">
      <h2 id="trust-title">
        What is known of it {trust.isVerified && <span class="badge good">verified</span>}
      </h2>
      <ul class="trust-facts">
        {facts.map(({ name, value, means, bearing, source }) => (
          <li class={bearing}>
            <span class="sign" aria-hidden="true">{SIGNS[bearing][0]}</span>
            <div>
              <h3>
                {name} <span class="hidden">({SIGNS[bearing][1]})</span>
              </h3>
              <p class="value">{visibleText(value)}</p>
              <p class="help">
                {visibleText(means)} {source !== null && `From ${visibleText(source)}.`}
              </p>
            </div>
          </li>
        ))}
        {bomOf && (
          <li class="good">
            <span class="sign" aria-hidden="true">✓</span>
            <div>
              <h3>Bill of materials</h3>
              <p class="value">
                <a href={url(`/servers/${bomOf}/bom`)} download>Kept, in CycloneDX</a>
              </p>
              <p class="help">
                Every package that its image was made of. From the toolbox that built it.
              </p>
            </div>
          </li>
        )}
        <Hardening controls={controls} />
        <li class={tools ? "neutral" : "unknown"}>
          <span class="sign" aria-hidden="true">{tools ? "·" : "?"}</span>
          <div>
            <h3>What its tools cost a model</h3>
            <p class="value">
              {tools
                ? `${tokens(costOf(tools))} for ${count(tools.length, "tool")}`
                : "Not known before it runs"}
            </p>
            <p class="help">
              {tools
                ? "Each time an agent is given all of them. From the definitions that it lists."
                : "A server's definitions are read once it is deployed."}
            </p>
          </div>
        </li>
        {origin && (
          <li class="neutral">
            <span class="sign" aria-hidden="true">·</span>
            <div>
              <h3>Where its entry is from</h3>
              <p class="value">
                {origin.source === "builtin"
                  ? "Built in: it came with Mooring"
                  : (
                    <a href={url(`/marketplace/sources#source-${origin.source}`)}>
                      {visibleText(origin.sourceName)}
                    </a>
                  )}
              </p>
              <p class="help">
                {origin.syncedAt && (
                  <>
                    Synced last <Time at={origin.syncedAt} />.{" "}
                  </>
                )}
                <a href={url(`/marketplace/${origin.slug}/raw`)}>The entry as its source has it</a>
              </p>
            </div>
          </li>
        )}
      </ul>
      {trust.isVerified && (
        <p class="help">
          <strong>Verified</strong>{" "}
          means that what runs is named exactly by a catalog that checked whose it is, or that this
          very package got ready in this workspace. It does not mean that anybody read its code.
        </p>
      )}
    </section>
  );
}

function Hardening({ controls }: { controls: Control[] }) {
  const loosened = controls.filter((control) => control.loosened !== null);
  const held = controls.length - loosened.length;
  return (
    <li class={loosened.length === 0 ? "good" : "neutral"}>
      <span class="sign" aria-hidden="true">{loosened.length === 0 ? "✓" : "·"}</span>
      <div>
        <h3>How it is locked in</h3>
        <p class="value">{held} of {controls.length} controls in force</p>
        {loosened.length > 0 && (
          <ul class="plain help">
            {loosened.map(({ loosened }) => <li>{visibleText(loosened!)}.</li>)}
          </ul>
        )}
        <details>
          <summary>All controls</summary>
          <ul class="controls">
            {controls.map(({ name, loosened }) => (
              <li>
                <span aria-hidden="true">{loosened === null ? "✓" : "–"}</span>{" "}
                <span class="hidden">{loosened === null ? "In force:" : "Not in force:"}</span>
                {name}
              </li>
            ))}
          </ul>
          <p class="help">
            Counted one by one, none weighs more than another: a server that needs a host and a key
            has two less, and is no worse for it.
          </p>
        </details>
      </div>
    </li>
  );
}

function costOf(tools: unknown[]): number {
  return tools.reduce<number>((sum, tool) => sum + tokensOf(tool as { name?: string }), 0);
}
