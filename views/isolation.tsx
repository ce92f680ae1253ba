import type { HostFacts, Sandbox, Tier } from "../dtma/protocol.ts";
import type { Server } from "../models/servers.ts";
import { visibleText } from "./visible_text.ts";

type Engine = Extract<HostFacts["engine"], { state: "ready" }>;

const KINDS: Record<Sandbox["kind"], string> = {
  gvisor: "gVisor",
  kata: "Kata Containers",
  other: "a sandbox of its owner's choice",
};

function sandboxTitle({ kind, runtime }: Sandbox): string {
  return `${KINDS[kind]} (${visibleText(runtime)})`;
}

/** The field that says how far a server is trusted. */
export function TierField({ tier, entryTier, mistake }: {
  tier: string;
  entryTier: Tier;
  mistake?: string;
}) {
  const id = "field-option-tier";
  return (
    <div class="field">
      <label for={id}>How far you trust it</label>
      <select
        id={id}
        name="option.tier"
        aria-invalid={mistake ? "true" : undefined}
        aria-describedby={`${id}-help${mistake ? ` ${id}-mistake` : ""}`}
      >
        <option value="standard" selected={tier === "standard"}>
          Standard: in a sandbox where the toolbox has one
        </option>
        <option value="untrusted" selected={tier === "untrusted"}>
          Untrusted: in a sandbox, or not at all
        </option>
      </select>
      {mistake && <p class="mistake" id={`${id}-mistake`}>{mistake}</p>}
      <p class="help" id={`${id}-help`}>
        A sandbox (gVisor, Kata) gives the server a kernel of its own, so that a fault of the
        toolbox's kernel is out of its reach. It starts slower there, and some programs do not work.
        {entryTier === "untrusted" && " Its entry asks for a sandbox."}
      </p>
    </div>
  );
}

/** A server's rows in its list of facts. */
export function IsolationFacts({ server }: { server: Server }) {
  if (server.containerId === null) return null;
  return (
    <>
      <dt>Isolation</dt>
      <dd>
        {server.sandbox
          ? <>A kernel of its own: {sandboxTitle(server.sandbox)}</>
          : <>Locked down on the toolbox's own kernel</>}
        {server.unsandboxed && <>. {visibleText(server.unsandboxed)}</>}
      </dd>
    </>
  );
}

/** A toolbox's rows in the list of what is known of its host. */
export function RuntimeFacts({ engine }: { engine: Engine }) {
  const { runtimes = [], sandbox } = engine;
  return (
    <>
      {runtimes.length > 0 && (
        <>
          <dt>Runtimes</dt>
          <dd>
            {runtimes.map(({ name, kind }, i) => (
              <>
                {i > 0 && ", "}
                <code>{visibleText(name)}</code>
                {kind !== "shared" && <>({KINDS[kind]})</>}
              </>
            ))}
          </dd>
        </>
      )}
      {sandbox !== undefined && (
        <>
          <dt>Sandbox</dt>
          <dd>
            {sandbox === null
              ? (
                <>
                  None, so untrusted servers are refused here. To have gVisor install{" "}
                  <code>runsc</code>, then run <code>runsc install -- --oci-seccomp</code> and{" "}
                  <code>systemctl reload docker</code> there
                </>
              )
              : (
                <>
                  {sandboxTitle(sandbox)}, {sandbox.standard
                    ? "for every server"
                    : "for untrusted servers alone, as its owner wants it"}
                  {sandbox.differs.length > 0 && (
                    <details>
                      <summary>What is different in it</summary>
                      <ul>
                        {sandbox.differs.map((each) => <li>{visibleText(each)}.</li>)}
                      </ul>
                    </details>
                  )}
                </>
              )}
          </dd>
        </>
      )}
    </>
  );
}
