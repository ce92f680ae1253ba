import type { Finding, ImageScan, Severity } from "../dtma/protocol.ts";
import type { Scans } from "../models/scans.ts";
import type { Server } from "../models/servers.ts";
import { count, Time } from "./parts.tsx";
import { visibleText } from "./visible_text.ts";

type Found = Extract<ImageScan["outcome"], { state: "scanned" }>;

/** In words, the worst first; the sign beside each is not its colour alone. */
const SEVERITIES: [Severity, name: string, sign: string][] = [
  ["critical", "critical", "▲"],
  ["high", "high", "▲"],
  ["medium", "medium", "◆"],
  ["low", "low", "▽"],
  ["negligible", "negligible", "▽"],
  ["unknown", "of unknown severity", "○"],
];

/** What a scanner found in the packages of a server's image; follows changes live. */
export function ServerVulnerabilities({ server, scans }: { server: Server; scans: Scans }) {
  const { scan, scanner } = scans;
  return (
    <section class="card" id="vulnerabilities" aria-labelledby="vulnerabilities-title">
      <h2 id="vulnerabilities-title">Vulnerabilities</h2>
      {scan
        ? <Scan scan={scan} isOfAnother={isOfAnother(scan, server)} />
        : scanner
        ? (
          <p class="help">
            Not scanned yet: <code>{visibleText(scanner)}</code>{" "}
            looks at its image within minutes of its start, and daily from then on.
          </p>
        )
        : <NoScanner isTold={scanner !== undefined} />}
      {scan && !scanner && <p class="help">No scanner is on its toolbox any more.</p>}
    </section>
  );
}

function isOfAnother(scan: ImageScan, server: Server): boolean {
  return server.imageDigest !== null && server.imageDigest !== scan.imageId;
}

function NoScanner({ isTold }: { isTold: boolean }) {
  if (!isTold) {
    return (
      <p class="help">
        Its toolbox's DTMA does not say whether it can scan images: update Mooring there.
      </p>
    );
  }
  return (
    <>
      <p>No scanner on this toolbox, so nothing is known of its packages' vulnerabilities.</p>
      <p class="help">
        Install <a href="https://trivy.dev" rel="noreferrer">trivy</a> or{" "}
        <a href="https://github.com/anchore/grype" rel="noreferrer">grype</a>{" "}
        on its machine. Mooring's own toolbox finds it at its next start; another one is started
        with <code>DTMA_SCANNER=/path/to/trivy</code> and <code>--allow-run=/path/to/trivy</code>.
      </p>
    </>
  );
}

function Scan({ scan, isOfAnother }: { scan: ImageScan; isOfAnother: boolean }) {
  const { outcome, scanner, components } = scan;
  return (
    <>
      {outcome.state === "failed"
        ? (
          <p class="notice">
            <strong>The scan failed.</strong> {visibleText(outcome.reason)}
          </p>
        )
        : <Findings found={outcome} />}
      <p class="help">
        {outcome.state === "failed" ? "Tried" : "Scanned"} <Time at={scan.at} relative />
        {scanner && (
          <>
            {" "}
            by {visibleText(scanner.name)}
            {scanner.version && ` ${visibleText(scanner.version)}`}
            {scanner.databaseAt && (
              <>
                {", whose database is of "}
                <Time at={scanner.databaseAt} />
              </>
            )}
          </>
        )}. {outcome.state === "scanned" && (
          <>
            It was shown {count(components, "package")}{" "}
            that Mooring installed; what the base image brings besides was not looked at.
          </>
        )}
        {isOfAnother && " That was the image before the one that runs now."}
      </p>
    </>
  );
}

function Findings({ found }: { found: Found }) {
  const present = SEVERITIES.filter(([severity]) => found.counts[severity] > 0);
  const total = present.reduce((sum, [severity]) => sum + found.counts[severity], 0);
  return (
    <>
      {total === 0 ? <p>No vulnerability is known of its packages.</p> : (
        <>
          <p class="badges">
            {present.map(([severity, name, sign]) => (
              <span class={`badge severity ${severity}`}>
                <span aria-hidden="true">{sign}</span> {found.counts[severity]} {name}
              </span>
            ))}
          </p>
          <details>
            <summary>
              {found.findings.length < total
                ? `The worst ${found.findings.length} of ${total}`
                : count(total, "finding")}
            </summary>
            <ul class="findings">
              {found.findings.map((finding) => <Listed finding={finding} />)}
            </ul>
          </details>
        </>
      )}
      {found.unread > 0 && (
        <p class="help">{count(found.unread, "finding")} could not be read, and may be any.</p>
      )}
    </>
  );
}

function Listed({ finding }: { finding: Finding }) {
  const name = SEVERITIES.find(([severity]) => severity === finding.severity)![1];
  const id = <code>{visibleText(finding.id)}</code>;
  return (
    <li>
      {isLink(finding.url) ? <a href={finding.url} rel="noreferrer">{id}</a> : id}{" "}
      <strong>{name}</strong> in <code>{visibleText(finding.package)}</code>{" "}
      {finding.installed && visibleText(finding.installed)},{" "}
      {finding.fixed ? <>mended in {visibleText(finding.fixed)}</> : "not mended yet"}
      {finding.title && <p>{visibleText(finding.title)}</p>}
    </li>
  );
}

/** A toolbox may report what it likes: no other scheme is made a link. */
function isLink(url: string | null): url is string {
  return url !== null && url.startsWith("https://") && URL.canParse(url);
}
