{{/* Names and labels. */}}
{{- define "consentry.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "consentry.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "consentry.labels" -}}
{{ include "consentry.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The pods that have the sidecar: this release's, or where another chart has the workload, all of the namespace. */}}
{{- define "consentry.pods" -}}
{{- if .Values.app.enabled -}}
{{ include "consentry.selector" . }}
{{- else -}}
{{ include "consentry.podLabels" . }}
{{- end -}}
{{- end -}}
