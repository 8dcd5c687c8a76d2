{{- define "ecli-gateway.name" -}}
{{- $whole := printf "%s-%s" .Release.Name .Chart.Name }}
{{- ternary .Release.Name $whole (contains .Chart.Name .Release.Name) | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "ecli-gateway.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ecli-gateway.labels" -}}
{{ include "ecli-gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* gateway.yaml: what is written in values holds, beneath it lies what a pod needs. */}}
{{- define "ecli-gateway.config" -}}
{{- $store := dict "kind" "embedded" "path" "/var/lib/ecli-gateway/data" }}
{{- $usage := dict "url" "sqlite:////var/lib/ecli-gateway/data/usage.db" "journal" "/var/lib/ecli-gateway/data/journal" }}
{{- $config := mergeOverwrite (dict "store" $store "usage" $usage "server" (dict)) (deepCopy .Values.config) }}
{{- $_ := set $config.server "host" "0.0.0.0" }}
{{- $_ := set $config.server "port" 8080 }}
{{- $embedded := ne $config.store.kind "redis" }}
{{- $sqlite := hasPrefix "sqlite" $config.usage.url }}
{{- if and (gt (int .Values.replicas) 1) (or $embedded $sqlite) }}
{{- fail "replicas: more than one needs config.store.kind: redis, and config.usage.url in PostgreSQL or MariaDB" }}
{{- end }}
{{- if and (gt (int ($config.server.workers | default 1)) 1) $embedded }}
{{- fail "config.server.workers: more than one needs config.store.kind: redis" }}
{{- end }}
{{- toYaml $config }}
{{- end }}
