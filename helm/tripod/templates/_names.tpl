{{- define "tripod.name" -}}{{ printf "%s-tripod" .Release.Name | trunc 50 | trimSuffix "-" }}{{- end }}
{{- define "tripod.labels" -}}
{{ include "tripod.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
{{- define "tripod.selector" -}}
app.kubernetes.io/name: tripod
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- /* The host name of node N (from 1), as clients and peers use it. */ -}}
{{- define "tripod.host" -}}
{{- if .root.Values.nodeServices -}}node{{ .n }}{{- else -}}
{{ include "tripod.name" .root }}-{{ .n }}.{{ include "tripod.name" .root }}-nodes{{- end -}}
{{- end }}
{{- define "tripod.image" -}}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{- end }}
