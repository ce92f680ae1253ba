import type { CredentialFields } from "../models/api_entries.ts";
import type { ApiDocumentRow, ListedOperation, OperationChange } from "../models/api_servers.ts";
import type { Placement } from "../models/placement.ts";
import type { Server } from "../models/servers.ts";
import type { Toolbox } from "../models/toolboxes.ts";
import { DocumentForm } from "./api_add.tsx";
import { ApiSettings } from "./api_settings.tsx";
import { Form } from "./form.tsx";
import { count, Field, Mistake, Time, tokens } from "./parts.tsx";
import { tokensOfBytes } from "./token_cost.ts";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface ApiOperationsProps {
  document: ApiDocumentRow;
  credentials: CredentialFields[];
  /** The server whose operations these are; null: it is to be deployed. */
  server: Server | null;
  changes: OperationChange[];
  /** By key. */
  chosen: Set<string>;
  tellsShape: boolean;
  values: Record<string, string>;
  mistakes: Record<string, string>;
  message?: string;
  /** Why the document could not be fetched again. */
  checking?: string;
  idempotencyKey: string;
  toolboxes: Toolbox[];
  placement: Placement;
  nothingFits: string | null;
}

/** A document's operations, to be chosen as a server's tools. */
export function ApiOperations(props: ApiOperationsProps) {
  const { document, server, mistakes, message } = props;
  const url = useUrl();
  const isChoosable = props.placement.fits.some((fit) => fit.isChoosable);
  return (
    <>
      <p class="crumbs">
        {server
          ? (
            <>
              <a href={url("/servers")}>Servers</a> /{" "}
              <a href={url(`/servers/${server.id}`)}>{server.name}</a> / Operations
            </>
          )
          : (
            <>
              <a href={url("/marketplace")}>Marketplace</a> /{" "}
              <a href={url("/servers/api")}>REST API</a> / {visibleText(document.title)}
            </>
          )}
      </p>
      <h1>{server ? `Operations of ${server.name}` : visibleText(document.title)}</h1>
      <p class="lead">
        {count(document.operations.length, "operation")} of{" "}
        {visibleText(`${document.title} ${document.version}`.trim())} (OpenAPI{" "}
        {document.openapi}). Each that you choose becomes a tool, which you approve before agents
        get it.
      </p>
      {server && <Source {...props} />}
      {server && <Changes {...props} />}
      {!server && !isChoosable
        ? (
          <p class="notice bad">
            {props.nothingFits}. <a href={url("/toolboxes")}>See toolboxes</a>.
          </p>
        )
        : (
          <Form action={url(`/servers/api/${document.id}`)} class="operations">
            <Mistake>{message}</Mistake>
            {server
              ? <input type="hidden" name="baseGeneration" value={String(server.generation)} />
              : <input type="hidden" name="idempotencyKey" value={props.idempotencyKey} />}
            <OperationList {...props} />
            <section class="card" aria-labelledby="how">
              <h2 id="how">{server ? "Save" : "Deploy"}</h2>
              {mistakes.operation && <p class="mistake">{mistakes.operation}</p>}
              <p id="choice" data-choice aria-live="polite">{choiceOf(props)}</p>
              {!server && <ApiSettings {...props} />}
              <Field
                name="tellsShape"
                type="checkbox"
                label="Tools say in which shape they answer"
                value={String(props.tellsShape)}
                help={"Programs that call tools like to know, and it costs a model nothing. Untick it if the " +
                  "API answers otherwise than its document says."}
              />
              <button>{server ? "Save and redeploy" : "Deploy"}</button>
            </section>
          </Form>
        )}
    </>
  );
}

function choiceOf({ document, chosen }: ApiOperationsProps): string {
  const those = document.operations.filter(({ key }) => chosen.has(key));
  const bytes = those.reduce((sum, operation) => sum + operation.bytes, 0);
  return `${count(those.length, "operation")} chosen: ${tokens(tokensOfBytes(bytes))} for a model.`;
}

/** Where the document came from, and how a newer one is taken. */
function Source({ document, checking, server }: ApiOperationsProps) {
  const url = useUrl();
  return (
    <section class="card" aria-labelledby="source">
      <h2 id="source">Document</h2>
      <Mistake>{checking}</Mistake>
      <p>
        {document.sourceUrl
          ? (
            <>
              From <code>{visibleText(document.sourceUrl)}</code>, read
            </>
          )
          : "Given here"} <Time at={document.createdAt} relative />
        {document.usedAt === null && ", and not in use yet"}.
      </p>
      {document.sourceUrl && (
        <Form action={url(`/servers/api/${document.id}/check`)}>
          <button class="quiet">Check again</button>
        </Form>
      )}
      <details class="more">
        <summary>Give a newer document</summary>
        <DocumentForm values={{}} mistakes={{}} action={url(`/servers/${server!.id}/api`)} />
      </details>
    </section>
  );
}

/** What of the server's own operations is another one in this document. */
function Changes({ document, changes }: ApiOperationsProps) {
  if (changes.length === 0) {
    return document.usedAt === null
      ? <p class="notice">The operations of this server are in this document as they are now.</p>
      : null;
  }
  return (
    <section class="card" aria-labelledby="changes">
      <h2 id="changes">What is another one now</h2>
      <ul class="plain changes">
        {changes.map(({ key, name, state, parts }) => (
          <li>
            <code>{name}</code> {state === "gone"
              ? (
                <>
                  <strong>is gone</strong> from the document:{" "}
                  <code>{visibleText(key)}</code>. Its tool goes when you save.
                </>
              )
              : (
                <>
                  <strong>has changed</strong>:{" "}
                  {parts.join(", ")}. Agents get it when you have approved it anew.
                </>
              )}
          </li>
        ))}
      </ul>
    </section>
  );
}

function OperationList(props: ApiOperationsProps) {
  const { document, chosen } = props;
  const groups = Object.entries(Object.groupBy(document.operations, ({ tag }) => tag)) as [
    string,
    ListedOperation[],
  ][];
  const isLarge = document.operations.length > 60;
  return (
    <section aria-labelledby="operations">
      <h2 id="operations">Operations</h2>
      {isLarge && chosen.size === 0 && (
        <p class="help">None is chosen beforehand, since there are so many.</p>
      )}
      <div class="field needs-script" hidden>
        <label for="filter">Find</label>
        <input id="filter" type="search" data-filter="operation" autocomplete="off" />
      </div>
      {groups.map(([tag, operations]) => (
        <Group
          tag={tag}
          operations={operations}
          isOpen={!isLarge || groups.length === 1 || operations.some(({ key }) => chosen.has(key))}
          {...props}
        />
      ))}
    </section>
  );
}

function Group({ tag, operations, isOpen, chosen }: ApiOperationsProps & {
  tag: string;
  operations: ListedOperation[];
  isOpen: boolean;
}) {
  return (
    <details class="card group" open={isOpen}>
      <summary>
        <strong>{visibleText(tag) || "Without a tag"}</strong>{" "}
        <span class="help">{count(operations.length, "operation")}</span>
      </summary>
      {operations.length > 3 && (
        <button type="button" class="quiet needs-script" hidden data-tick>Tick all shown</button>
      )}
      <ul class="plain">
        {operations.map((operation) => (
          <Operation operation={operation} isChosen={chosen.has(operation.key)} />
        ))}
      </ul>
    </details>
  );
}

function Operation({ operation, isChosen }: { operation: ListedOperation; isChosen: boolean }) {
  const { key, method, path, summary, name, bytes, isReadOnly, isDeprecated, obstacle } = operation;
  const id = `operation-${name}`;
  return (
    <li class="operation" data-operation={`${key} ${name} ${summary}`.toLowerCase()}>
      <input
        type="checkbox"
        id={id}
        name="operation"
        value={key}
        checked={isChosen && obstacle === null}
        disabled={obstacle !== null}
        data-tokens={String(tokensOfBytes(bytes))}
        aria-describedby={`${id}-about`}
      />
      <div>
        <label for={id}>
          <span class={`badge method ${isReadOnly ? "reads" : "writes"}`}>{method}</span>{" "}
          <code>{visibleText(path)}</code>
        </label>
        <p id={`${id}-about`}>
          {summary && <>{visibleText(summary)}{" "}</>}
          {isDeprecated && <span class="badge">deprecated</span>} {obstacle
            ? <span class="mistake">{visibleText(obstacle)}.</span>
            : <span class="help">Tool {name}, {tokens(tokensOfBytes(bytes))}</span>}
        </p>
      </div>
    </li>
  );
}
