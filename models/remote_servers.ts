/** Servers that run elsewhere, by their URL. */
import { z } from "zod";
import { CatalogEntry } from "./catalog_entries.ts";
import { Invalid } from "./errors.ts";

/** So many headers the form asks for; the adapter takes more (dtma/remote_adapter/main.mts). */
export const REMOTE_HEADERS = [1, 2];

/** What the adapter may take. */
export const REMOTE_MEMORY_MIB = 128;

/** Headers that are the transport's own, or would be another's. */
const OWN_HEADERS =
  /^(accept|connection|content-.*|host|last-event-id|mcp-.*|te|trailer|transfer-encoding|upgrade)$/i;

const RemoteForm = z.object({
  url: z.string().trim().max(2000, "must be at most 2,000 characters long")
    .refine((url) => URL.canParse(url) && /^https?:$/.test(new URL(url).protocol), {
      message: "must be a whole URL, such as https://mcp.example.com/mcp",
      abort: true,
    })
    .transform((url) => new URL(url))
    .refine(({ username, password }) => !username && !password, {
      message: "must have no user or password in it: give a header instead",
    })
    .refine(({ hash }) => !hash, { message: "must end before its #" })
    .refine(({ hostname }) => /^[a-z0-9.-]+$/.test(hostname) && !/^[0-9.]+$/.test(hostname), {
      message: "must name its host, not an address: TLS and the way out go by names",
    }),
});

/** What is wrong with a header's value, as a sentence; null: nothing. */
export function headerMistake(value: string): string | null {
  return /^[\x20-\x7e]+$/.test(value) ? null : "A header's value is one line of ASCII characters";
}

/** Whether among these secrets of a remote server is the value of its header Authorization. */
export function givesAuthorization(
  { package: wanted, environment }: CatalogEntry,
  secrets: Record<string, string>,
): boolean {
  return wanted.registry === "remote" &&
    environment.some(({ name, value }) =>
      value?.toLowerCase() === "authorization" &&
      Object.hasOwn(secrets, name.replace(/_NAME$/, "_VALUE"))
    );
}

/** @throws {Invalid} where no account can be connected */
export function mustTakeAccount({ package: wanted }: CatalogEntry): void {
  if (wanted.registry === "remote" && wanted.url.startsWith("https:")) return;
  const mistake = "The URL must be https where an account is connected";
  throw new Invalid("One field needs attention", { url: mistake });
}

/** The field of a header's name; its value is the entry's own secret input. */
export function headerNameField(n: number): string {
  return `header.${n}`;
}

/**
 * What is deployed for a remote server: an adapter that may reach its host, with the headers as
 * secrets.
 *
 * @param form `url`, and `header.N` with a header's name for each that is sent; their values are the
 *   fields `env.HEADER_N_VALUE` of the entry
 * @throws {Invalid} with a sentence for each field that does not hold
 */
export function remoteEntry(form: Record<string, string>): CatalogEntry {
  const mistakes: Record<string, string> = {};
  const parsed = RemoteForm.safeParse({ url: form.url ?? "" });
  if (!parsed.success) mistakes.url = `The URL ${parsed.error.issues[0].message}`;
  const headers: { n: number; name: string }[] = [];
  for (const n of REMOTE_HEADERS) {
    const field = headerNameField(n), name = (form[field] ?? "").trim();
    const value = (form[`env.HEADER_${n}_VALUE`] ?? "").trim();
    if (value === "") continue;
    if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$/.test(name)) {
      mistakes[field] = "A header's name has letters, digits and dashes, such as Authorization";
    } else if (OWN_HEADERS.test(name)) {
      mistakes[field] = `${name} is not yours to set: it belongs to the connection`;
    } else if (headers.some((other) => other.name.toLowerCase() === name.toLowerCase())) {
      mistakes[field] = `${name} is given twice`;
    } else headers.push({ n, name });
    const mistake = headerMistake(value);
    if (mistake) mistakes[`env.HEADER_${n}_VALUE`] = mistake;
  }
  const url = parsed.data?.url;
  if (url?.protocol === "http:" && headers.length > 0) {
    mistakes.url = "The URL must be https where a header is sent: http would show it to anybody";
  }
  const count = Object.keys(mistakes).length;
  if (count > 0) {
    throw new Invalid(
      count === 1 ? "One field needs attention" : `${count} fields need attention`,
      mistakes,
    );
  }
  const port = url!.port || (url!.protocol === "https:" ? "443" : "80");
  return CatalogEntry.parse({
    slug: "remote",
    title: url!.hostname.slice(0, 80),
    summary: `A remote MCP server at ${url!.hostname}`.slice(0, 200),
    description: "",
    category: "remote",
    homepage: url!.origin,
    license: "",
    package: { registry: "remote", url: url!.href },
    arguments: [],
    environment: headers.flatMap(({ n, name }) => [
      { name: `HEADER_${n}_NAME`, value: name },
      { name: `HEADER_${n}_VALUE`, label: `Header ${name}`, isSecret: true, isRequired: true },
    ]),
    network: { hosts: [`${url!.hostname}:${port}`] },
    memoryMiB: REMOTE_MEMORY_MIB,
  });
}
