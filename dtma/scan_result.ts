/**
 * What trivy and grype say of a bill of materials, as one kind of result. Both are read tolerantly: a
 * finding that is not understood is counted as such and takes none of the others along.
 *
 * @see https://trivy.dev/docs/latest/configuration/reporting/#json (`trivy sbom --format json`)
 * @see https://github.com/anchore/grype (`grype sbom:… -o json`, grype/presenter/models)
 */
import { z } from "zod";
import { type Finding, type ScanResult, SEVERITIES, type Severity } from "./protocol.ts";

export type ScannerKind = "trivy" | "grype";

/** What a scanner says of itself. */
export interface ScannerFacts {
  version: string | null;
  /** When its database of vulnerabilities was made, RFC 3339; null when it does not say. */
  databaseAt: string | null;
}

/** Findings that are kept, the worst first; all are counted. */
const FINDINGS_LIMIT = 50;

const text = z.string().nullish();

const TrivyReport = z.object({
  SchemaVersion: z.number(),
  Results: z.array(z.object({ Vulnerabilities: z.array(z.unknown()).nullish() })).nullish(),
});

const TrivyFinding = z.object({
  VulnerabilityID: z.string().min(1),
  PkgName: z.string().min(1),
  InstalledVersion: text,
  FixedVersion: text,
  Severity: text,
  Title: text,
  Description: text,
  PrimaryURL: text,
});

const TrivyVersion = z.object({
  Version: text,
  VulnerabilityDB: z.object({ UpdatedAt: text }).nullish(),
});

const GrypeReport = z.object({
  matches: z.array(z.unknown()),
  descriptor: z.object({
    version: text,
    db: z.object({
      // Since 0.88 (schema v6) what was `db` is its `status`.
      status: z.object({ built: text }).nullish(),
      built: text,
    }).nullish(),
  }).nullish(),
});

const GrypeFinding = z.object({
  vulnerability: z.object({
    id: z.string().min(1),
    dataSource: text,
    severity: text,
    description: text,
    fix: z.object({ versions: z.array(z.string()).nullish() }).nullish(),
  }),
  artifact: z.object({ name: z.string().min(1), version: text }),
});

/** The output could not be understood at all. */
export class ScanError extends Error {
  override name = "ScanError";
}

/**
 * Reads `trivy sbom --format json`.
 * @throws ScanError
 */
export function readTrivy(output: string): ScanResult {
  const { Results } = parse(TrivyReport, output, "trivy");
  const given = (Results ?? []).flatMap(({ Vulnerabilities }) => Vulnerabilities ?? []);
  return summary(given, (each): Finding | null => {
    const { success, data } = TrivyFinding.safeParse(each);
    return success
      ? finding({
        id: data.VulnerabilityID,
        package: data.PkgName,
        installed: data.InstalledVersion,
        fixed: data.FixedVersion,
        severity: data.Severity,
        title: data.Title || data.Description,
        url: data.PrimaryURL,
      })
      : null;
  });
}

/** Reads `trivy version --format json`; what it does not say is null. */
export function readTrivyVersion(output: string): ScannerFacts {
  const { Version, VulnerabilityDB } = parse(TrivyVersion, output, "trivy");
  return { version: cut(Version, 60), databaseAt: date(VulnerabilityDB?.UpdatedAt) };
}

/**
 * Reads `grype sbom:… -o json`, which says of itself what trivy says elsewhere.
 * @throws ScanError
 */
export function readGrype(output: string): { result: ScanResult; facts: ScannerFacts } {
  const { matches, descriptor } = parse(GrypeReport, output, "grype");
  const result = summary(matches, (each): Finding | null => {
    const { success, data } = GrypeFinding.safeParse(each);
    return success
      ? finding({
        id: data.vulnerability.id,
        package: data.artifact.name,
        installed: data.artifact.version,
        fixed: data.vulnerability.fix?.versions?.join(", "),
        severity: data.vulnerability.severity,
        title: data.vulnerability.description,
        url: data.vulnerability.dataSource,
      })
      : null;
  });
  const built = descriptor?.db?.status?.built ?? descriptor?.db?.built;
  return { result, facts: { version: cut(descriptor?.version, 60), databaseAt: date(built) } };
}

function parse<T>(schema: z.ZodType<T>, output: string, name: string): T {
  let given: unknown;
  try {
    given = JSON.parse(output);
  } catch {
    throw new ScanError(`What ${name} printed is not JSON`);
  }
  const { success, data } = schema.safeParse(given);
  if (!success) throw new ScanError(`What ${name} printed is not a report that is known here`);
  return data;
}

function summary(given: unknown[], read: (each: unknown) => Finding | null): ScanResult {
  // One vulnerability of one package is listed once for each place that the package is in.
  const found = new Map<string, Finding>();
  let unread = 0;
  for (const each of given) {
    const known = read(each);
    if (!known) unread++;
    else found.set(JSON.stringify([known.id, known.package, known.installed]), known);
  }
  const counts = Object.fromEntries(SEVERITIES.map((each) => [each, 0])) as ScanResult["counts"];
  for (const { severity } of found.values()) counts[severity]++;
  const rank = ({ severity, fixed }: Finding) =>
    2 * SEVERITIES.indexOf(severity) + (fixed === null ? 1 : 0);
  const findings = [...found.values()]
    .sort((a, b) => rank(a) - rank(b) || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0))
    .slice(0, FINDINGS_LIMIT);
  return { counts, findings, unread };
}

/** What is untrusted in it is cut to size and well-formed; that it is text is for the page to see. */
function finding(
  given:
    & { id: string; package: string; severity: string | null | undefined }
    & Record<
      "installed" | "fixed" | "title" | "url",
      string | null | undefined
    >,
): Finding {
  return {
    id: cut(given.id, 100)!,
    package: cut(given.package, 200)!,
    installed: cut(given.installed, 100),
    fixed: cut(given.fixed, 200),
    title: cut(given.title, 300),
    severity: severityOf(given.severity),
    url: httpsUrl(given.url),
  };
}

function severityOf(word: string | null | undefined): Severity {
  return SEVERITIES.find((each) => each === word?.toLowerCase()) ?? "unknown";
}

function httpsUrl(url: string | null | undefined): string | null {
  if (!url || url.length > 500 || !URL.canParse(url)) return null;
  return new URL(url).protocol === "https:" ? url : null;
}

function cut(given: string | null | undefined, length: number): string | null {
  const whole = given?.trim().toWellFormed();
  if (!whole) return null;
  return whole.length <= length ? whole : `${whole.slice(0, length - 1).toWellFormed()}…`;
}

/** RFC 3339 in UTC; Go writes zones and nanoseconds, and the year 1 for none. */
function date(given: string | null | undefined): string | null {
  const at = new Date(given ?? "");
  return Number.isNaN(at.getTime()) || at.getUTCFullYear() < 2000 ? null : at.toISOString();
}
