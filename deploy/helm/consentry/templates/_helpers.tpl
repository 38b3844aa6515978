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

{{/* What the values and the configuration have to agree on. */}}
{{- define "consentry.agreement" -}}
{{- $config := fromYaml .Values.config -}}
{{- with $config.Error -}}
{{- fail (printf "config is not YAML: %s" .) -}}
{{- end -}}
{{- $grace := dig "shutdown" "grace" "25s" $config -}}
{{- $seconds := 1 -}}
{{- if hasSuffix "ms" $grace -}}
{{- else if hasSuffix "s" $grace -}}{{- $seconds = trimSuffix "s" $grace | int -}}
{{- else if hasSuffix "m" $grace -}}{{- $seconds = trimSuffix "m" $grace | int | mul 60 -}}
{{- else if hasSuffix "h" $grace -}}{{- $seconds = trimSuffix "h" $grace | int | mul 3600 -}}
{{- end -}}
{{- $needed := add $seconds 5 (ternary 0 .Values.sidecar.stopDelay .Values.sidecar.native) | int -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) $needed -}}
{{- fail (printf "terminationGracePeriodSeconds is %d, and shutdown.grace of the configuration needs at least %d" (int .Values.terminationGracePeriodSeconds) $needed) -}}
{{- end -}}
{{- $health := dig "health" "listen" "127.0.0.1:9091" $config -}}
{{- if or (not (hasSuffix ":9091" $health)) (hasPrefix "127." $health) -}}
{{- fail (printf "health.listen of the configuration is %s: probes come to port 9091 of the pod, so let it be 0.0.0.0:9091" $health) -}}
{{- end -}}
{{- if and .Values.callback.enabled (not (hasSuffix (printf ":%d" (int .Values.callback.port)) (dig "callback" "listen" "" $config))) -}}
{{- fail (printf "callback is enabled, and callback.listen of the configuration is not on port %d" (int .Values.callback.port)) -}}
{{- end -}}
{{- end -}}
