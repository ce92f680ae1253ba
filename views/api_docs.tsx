import type { OpenApi, OpenApiOperation } from "../routes/api/openapi.ts";
import { useUrl } from "./url.ts";

type Schema = Record<string, unknown>;

export interface ApiDocsProps {
  document: OpenApi;
  /** Each kind of problem, with its status and title. */
  problems: Record<string, readonly [number, string]>;
}

/** The API as its OpenAPI document has it, to be read from top to bottom or searched by the browser. */
export function ApiDocs({ document, problems }: ApiDocsProps) {
  const url = useUrl();
  const base = document.servers[0].url;
  const all = operationsOf(document);
  return (
    <div class="reference">
      <h1>API</h1>
      <p>
        {document.info.description} Make one in <a href={url("/account/tokens")}>your account</a>.
        {" "}
        The whole of it for machines: <a href={url("/api/v1/openapi.json")}>openapi.json</a>{" "}
        (OpenAPI 3.1).
      </p>
      <nav aria-label="Operations">
        {document.tags.map(({ name }) => (
          <p>
            <strong>{name}</strong> {all.filter(({ operation }) => operation.tags[0] === name).map((
              { operation: { operationId } },
              index,
            ) => (
              <>
                {index > 0 && ", "}
                <a href={`#${operationId}`}>{operationId}</a>
              </>
            ))}
          </p>
        ))}
        <p>
          <strong>About all</strong> <a href="#requests">Requests</a>,{" "}
          <a href="#problems">Problems</a>, <a href="#schemas">Schemas</a>
        </p>
      </nav>
      <Requests base={base} />
      {document.tags.map(({ name }) => (
        <section>
          <h2>{name}</h2>
          {all.filter(({ operation }) => operation.tags[0] === name)
            .map((each) => <OperationCard {...each} base={base} />)}
        </section>
      ))}
      <section class="card" aria-labelledby="problems">
        <h2 id="problems">Problems</h2>
        <p>
          What cannot be done is answered as <code>application/problem+json</code> (RFC 9457):{" "}
          <code>detail</code> says what happened and what to do, <code>errors</code>{" "}
          which member does not hold and why. What is another workspace's is not found.
        </p>
        <ul>
          {Object.entries(problems).map(([kind, [status, title]]) => (
            <li id={kind}>
              <code>{status} {kind}</code> {title}
            </li>
          ))}
        </ul>
      </section>
      <section aria-labelledby="schemas">
        <h2 id="schemas">Schemas</h2>
        {Object.entries(document.components.schemas).map(([name, schema]) => (
          <article class="card" aria-labelledby={`schema-${name}`}>
            <h3 id={`schema-${name}`}>{name}</h3>
            <Shape schema={schema} />
          </article>
        ))}
      </section>
    </div>
  );
}

function Requests({ base }: { base: string }) {
  return (
    <section class="card" aria-labelledby="requests">
      <h2 id="requests">Requests</h2>
      <pre tabindex={0}><code>{
        `export MOORING_TOKEN=mpt_…\ncurl -H "Authorization: Bearer $MOORING_TOKEN" ${base}/me`
      }</code></pre>
      <ul>
        <li>
          Bodies are JSON in UTF-8, of 8 MiB at most; answers are JSON. Members that an operation
          does not have are refused.
        </li>
        <li>
          A list comes in parts: give <code>nextCursor</code> of one as <code>cursor</code>{" "}
          for the next. What is made or removed meanwhile neither hides another nor shows it twice.
        </li>
        <li>
          What makes something takes an{" "}
          <code>Idempotency-Key</code>: sent again with it within a day, the request makes nothing
          more and is answered as it was.
        </li>
        <li>
          A change of a server names the generation that it was made from, by <code>If-Match</code>
          {" "}
          or in its body, so that none is lost; one of a connection may name its version.
        </li>
        <li>
          A token may have 512 requests under way, and 2,000 a second in the long run; beyond, 429.
        </li>
      </ul>
    </section>
  );
}

interface Placed {
  method: string;
  path: string;
  operation: OpenApiOperation;
}

function operationsOf({ paths }: OpenApi): Placed[] {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => (
      { method: method.toUpperCase(), path, operation }
    ))
  );
}

function OperationCard({ base, ...placed }: Placed & { base: string }) {
  const { method, path, operation } = placed;
  const { operationId, summary, description, parameters, requestBody, responses } = operation;
  const [status, done] = Object.entries(responses).find(([status]) => status < "300")!;
  const answer = contentOf(done, "application/json");
  const body = requestBody?.content["application/json"].schema;
  return (
    <article class="card" aria-labelledby={operationId}>
      <h3 id={operationId}>{summary}</h3>
      <p>
        <code>{method} /api/v1{path}</code> <small>{operationId}</small>
      </p>
      {description.split("\n\n").filter(Boolean).map((text) => <p>{text}</p>)}
      {(parameters.length > 0 || body) && (
        <dl class="members">
          {parameters.map(({ name, in: where, required, description, schema }) => (
            <Member {...{ name, where, isRequired: required, description, schema }} />
          ))}
          {body &&
            Object.entries(body.properties as Record<string, Schema>).map(([name, schema]) => (
              <Member
                name={name}
                where="body"
                isRequired={(body.required as string[] | undefined)?.includes(name) ?? false}
                description={schema.description as string | undefined}
                schema={schema}
              />
            ))}
        </dl>
      )}
      <p>
        Answers <code>{status}</code>
        {answer ? ":" : " and nothing else."}
      </p>
      {answer && <Shape schema={answer} />}
      <details>
        <summary>With curl</summary>
        <pre tabindex={0}><code>{curl(base, placed)}</code></pre>
      </details>
    </article>
  );
}

function contentOf(response: Schema, type: string): Schema | undefined {
  return (response.content as Record<string, { schema: Schema }> | undefined)?.[type]?.schema;
}

function Member(props: {
  name: string;
  where: string;
  isRequired: boolean;
  description?: string;
  schema: Schema;
}) {
  return (
    <div>
      <dt>
        <code>{props.name}</code>{" "}
        <small>
          {props.where}
          {props.isRequired && ", needed"}
        </small>
      </dt>
      <dd>
        <code>{typeText(props.schema)}</code>
        {props.schema.default !== undefined &&
          <small>, else {JSON.stringify(props.schema.default)}</small>}
        {props.description && <p>{props.description}</p>}
      </dd>
    </div>
  );
}

/** A schema in words of types, with links to those that have a name. */
function Shape({ schema }: { schema: Schema }) {
  const parts = typeText(schema, "").split(/(#[A-Za-z]+#)/);
  return (
    <pre class="shape" tabindex={0}><code>
      {parts.map((part) => {
        const name = /^#([A-Za-z]+)#$/.exec(part)?.[1];
        return name ? <a href={`#schema-${name}`}>{name}</a> : part;
      })}
    </code></pre>
  );
}

/**
 * A schema's type as TypeScript would write it.
 * @param indent of an object that has its members on lines of their own; without it, all on one
 */
function typeText(schema: Schema, indent?: string): string {
  const { $ref, anyOf, oneOf, allOf, type, items, properties, additionalProperties } = schema;
  const named = (name: string) => indent === undefined ? name : `#${name}#`;
  if (typeof $ref === "string") return named($ref.slice($ref.lastIndexOf("/") + 1));
  const several = (anyOf ?? oneOf ?? allOf) as Schema[] | undefined;
  if (several) {
    return several.map((each) => typeText(each, indent)).join(allOf ? " & " : " | ");
  }
  if (Array.isArray(schema.enum)) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (Array.isArray(type)) return type.join(" | ");
  if (type === "array") {
    const item = typeText(items as Schema ?? {}, indent);
    return /[|&]/.test(item) && !item.startsWith("{") ? `(${item})[]` : `${item}[]`;
  }
  if (type === "object" && properties) {
    return objectText(schema as { properties: Record<string, Schema> }, indent);
  }
  if (type === "object") {
    const value = typeof additionalProperties === "object" && additionalProperties !== null
      ? typeText(additionalProperties as Schema, indent)
      : "any";
    return `{ [name]: ${value} }`;
  }
  return type === undefined ? "any" : String(schema.format ?? type);
}

function objectText(
  { properties, required = [] }: { properties: Record<string, Schema>; required?: string[] },
  indent?: string,
): string {
  const inner = indent === undefined ? undefined : indent + "  ";
  const members = Object.entries(properties).map(([name, schema]) => {
    const optional = required.includes(name) ? "" : "?";
    return `${name}${optional}: ${typeText(schema, inner)}`;
  });
  return indent === undefined
    ? `{ ${members.join(", ")} }`
    : `{\n${members.map((member) => inner + member).join("\n")}\n${indent}}`;
}

/** A request of this operation on a command line. */
function curl(base: string, { method, path, operation }: Placed): string {
  const { parameters, requestBody } = operation;
  const query = parameters.filter(({ in: where, required }) => where === "query" && required)
    .map(({ name }) => `${name}=…`).join("&");
  const schema = requestBody?.content["application/json"].schema;
  const needed = (schema?.required as string[] | undefined) ?? [];
  const body = schema && JSON.stringify(Object.fromEntries(
    needed.map((name) => [name, exampleOf((schema.properties as Record<string, Schema>)[name])]),
  ));
  const address = `"${base}${path.replace(/\{(\w+)\}/g, "$$$1")}${query ? `?${query}` : ""}"`;
  return [
    method === "GET" ? "curl" : `curl -X ${method}`,
    `-H "Authorization: Bearer $MOORING_TOKEN"`,
    ...parameters.filter(({ in: where }) => where === "header").map(({ name }) =>
      name === "If-Match" ? `-H 'If-Match: "1"'` : `-H "${name}: $(uuidgen)"`
    ),
    ...(body ? [`-H "Content-Type: application/json"`, `-d '${body}'`] : []),
    address,
  ].join(" \\\n  ");
}

function exampleOf(schema: Schema): unknown {
  if (schema.type === "array") return [exampleOf(schema.items as Schema)];
  if (schema.type === "object") {
    const { properties = {}, required = [] } = schema as {
      properties?: Record<string, Schema>;
      required?: string[];
    };
    return Object.fromEntries(required.map((name) => [name, exampleOf(properties[name] ?? {})]));
  }
  if (schema.type === "integer" || schema.type === "number") return 1;
  return Array.isArray(schema.enum) ? schema.enum[0] : "…";
}
