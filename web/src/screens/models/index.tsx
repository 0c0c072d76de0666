import "../../styles/teach.css";
import "../../styles/models.css";

import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Button as AriaButton, Input, Label, SearchField, ToggleButton, ToggleButtonGroup } from "react-aria-components";
import { Link, useSearchParams } from "wouter";

import { api, told } from "../../api/client";
import { messageOf } from "../../api/errors";
import { useModels } from "../../api/queries";
import { fill, useText } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { Button } from "../../ui/button";
import { Choice } from "../../ui/choice";
import { useFormat } from "../../ui/format";
import { Icon } from "../../ui/icons";
import { toast } from "../../ui/toasts";
import { Card } from "./card";
import { countKinds, familiesIn, fitting, type WeightsFile } from "./shelf";
import { texts } from "./text";

/** Models: every file of weights, searched and filtered by the address, and the card of one. */
export function Models() {
  const text = useOwnText(texts);
  const app = useText();
  const [search, setSearch] = useSearchParams();
  const { data: files, error } = useQuery({
    queryKey: ["weights"],
    queryFn: async () => (await told(api.GET("/v1/weights"))).data,
  });
  const set = (name: string, value: string) =>
    setSearch(
      (before) => {
        const next = new URLSearchParams(before);
        if (value === "") next.delete(name);
        else next.set(name, value);
        return next;
      },
      { replace: name !== "file" },
    );
  const chosen = files?.find((file) => file.id === search.get("file")) ?? files?.find((file) => file.name === search.get("name"));
  return (
    <div className={chosen === undefined ? "models" : "models models-chosen"}>
      <header className="screen-head models-head">
        <div>
          <h1>{text.title}</h1>
          <p className="quiet">{text.lead}</p>
        </div>
        <Upkeep />
      </header>
      {error !== null && <p role="alert">{messageOf(error)}</p>}
      {files === undefined && error === null && <p className="quiet">{app.app.loading}</p>}
      {files !== undefined && (
        <div className="models-grid">
          <section className="shelf" aria-label={text.title}>
            <Filters files={files} search={search} set={set} />
            <Shelf files={fitting(files, filterOf(search))} chosen={chosen} search={search} />
          </section>
          <div className="models-card">
            {chosen === undefined ? (
              <p className="quiet models-empty">{text.choose}</p>
            ) : (
              <>
                <Link href={`/models?${without(search, "file")}`} className="button button-quiet models-back">
                  <Icon name="left" />
                  <span>{text.back}</span>
                </Link>
                <Card key={chosen.id} file={chosen} files={files} onMade={(name) => setSearch({ name })} />
              </>
            )}
          </div>
        </div>
      )}
    </div>
  );
}

function filterOf(search: URLSearchParams) {
  return { words: search.get("q") ?? "", kind: search.get("kind") ?? "", family: search.get("family") ?? "" };
}

function without(search: URLSearchParams, name: string): string {
  const next = new URLSearchParams(search);
  next.delete(name);
  return next.toString();
}

function withFile(search: URLSearchParams, id: string): string {
  const next = new URLSearchParams(search);
  next.delete("name");
  next.set("file", id);
  return next.toString();
}

function Upkeep() {
  const text = useOwnText(texts);
  const queries = useQueryClient();
  const done = (message: string) => async () => {
    for (const list of ["weights", "models", "names"]) await queries.invalidateQueries({ queryKey: [list] });
    toast(message);
  };
  const failed = (error: Error) => toast(messageOf(error), { bad: true });
  const refresh = useMutation({ mutationFn: () => told(api.POST("/v1/models/refresh")), onSuccess: done(text.refreshed), onError: failed });
  const unload = useMutation({ mutationFn: () => told(api.POST("/v1/models/unload")), onSuccess: done(text.unloaded), onError: failed });
  return (
    <div className="row">
      <Button icon="reset" isPending={refresh.isPending} onPress={() => refresh.mutate()}>
        {text.refresh}
      </Button>
      <Button isPending={unload.isPending} onPress={() => unload.mutate()}>
        {text.unload}
      </Button>
    </div>
  );
}

interface FiltersOwn {
  files: readonly WeightsFile[];
  search: URLSearchParams;
  set: (name: string, value: string) => void;
}

function Filters({ files, search, set }: FiltersOwn) {
  const text = useOwnText(texts);
  const families = familiesIn(files);
  const kind = search.get("kind") ?? "";
  return (
    <div className="filters">
      <SearchField className="search" value={search.get("q") ?? ""} onChange={(words) => set("q", words)}>
        <Label className="visually-hidden">{text.search}</Label>
        <Icon name="search" />
        <Input placeholder={text.searchPlaceholder} />
        <AriaButton className="icon-button">
          <Icon name="close" />
        </AriaButton>
      </SearchField>
      <ToggleButtonGroup
        className="kinds"
        aria-label={text.kind}
        selectionMode="single"
        disallowEmptySelection
        selectedKeys={[kind]}
        onSelectionChange={(keys) => set("kind", String([...keys][0] ?? ""))}
      >
        <ToggleButton id="" className="kind">
          {text.all} <span>{files.length}</span>
        </ToggleButton>
        {countKinds(files).map(([id, count]) => (
          <ToggleButton key={id} id={id} className="kind">
            {text[`kind_${id}`]} <span>{count}</span>
          </ToggleButton>
        ))}
      </ToggleButtonGroup>
      {families.length > 1 && (
        <Choice
          hidden
          label={text.family}
          value={search.get("family") ?? ""}
          options={[{ id: "", label: `${text.family}: ${text.all}` }, ...families.map((id) => ({ id, label: id }))]}
          onChange={(family) => set("family", family)}
        />
      )}
    </div>
  );
}

function Shelf({ files, chosen, search }: { files: readonly WeightsFile[]; chosen: WeightsFile | undefined; search: URLSearchParams }) {
  const text = useOwnText(texts);
  const { bytes } = useFormat();
  const { data: models } = useModels();
  if (files.length === 0) return <p className="quiet models-empty">{text.none}</p>;
  return (
    <ul className="shelf-list" aria-label={fill(text.count, { count: files.length })}>
      {files.map((file) => {
        const model = file.kind === "checkpoint" ? models?.data.find((one) => one.id === file.name) : undefined;
        return (
          <li key={file.id}>
            <Link href={`/models?${withFile(search, file.id)}`} className="shelf-entry" aria-current={file.id === chosen?.id ? "true" : undefined}>
              <span className="shelf-name">{file.name}</span>
              <span className="shelf-marks">
                {model?.default === true && <span className="badge">{text.used}</span>}
                {model?.default !== true && model?.loaded === true && <span className="badge badge-second">{text.loaded}</span>}
                {file.problem !== null && <span className="badge badge-bad">{text.unusable}</span>}
              </span>
              <span className="quiet shelf-title">{file.title || file.problem}</span>
              <span className="quiet shelf-size">{bytes(file.bytes)}</span>
            </Link>
          </li>
        );
      })}
    </ul>
  );
}
