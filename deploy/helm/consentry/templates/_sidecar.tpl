{{/*
The sidecar, for the workload of this chart and for those of charts that depend on it. Another chart calls these with
`.Subcharts.consentry`, as README.md shows. deploy/kubernetes/component/sidecar.yaml has the same with its reasons.
*/}}

{{/* Labels of the pod: what the PodMonitor and the callback's Service look for. */}}
{{- define "consentry.podLabels" -}}
consentry: sidecar
{{- end -}}

{{/* Annotations of the pod: a change of the configuration rolls it, because it is read at start. */}}
{{- define "consentry.podAnnotations" -}}
checksum/consentry-config: {{ .Values.config | sha256sum }}
{{- end -}}

{{/* The container, a list of one: under initContainers, or under containers with sidecar.native: false. */}}
{{- define "consentry.container" -}}
- name: consentry
  {{- with .Values.image }}
  image: {{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
  imagePullPolicy: {{ .pullPolicy }}
  {{- end }}
  {{- if .Values.sidecar.native }}
  restartPolicy: Always
  {{- else }}
  lifecycle:
    postStart: {exec: {command: [/usr/local/bin/consentry, wait, --timeout, "300", --config, /etc/consentry/consentry.yaml]}}
    preStop: {exec: {command: [/busybox/sleep, {{ .Values.sidecar.stopDelay | quote }}]}}
  {{- end }}
  args: [run, --config, /etc/consentry/consentry.yaml]
  {{- with .Values.sidecar.env }}
  env: {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - {name: cs-health, containerPort: 9091}
    {{- if .Values.callback.enabled }}
    - {name: cs-callback, containerPort: {{ .Values.callback.port }}}
    {{- end }}
  startupProbe:
    httpGet: {path: /startupz, port: cs-health}
    periodSeconds: 1
    timeoutSeconds: 2
    failureThreshold: 300
  livenessProbe:
    httpGet: {path: /livez, port: cs-health}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  readinessProbe:
    httpGet: {path: /readyz, port: cs-health}
    periodSeconds: 5
    timeoutSeconds: 2
    failureThreshold: 2
  resources: {{- toYaml .Values.sidecar.resources | nindent 4 }}
  securityContext:
    runAsUser: {{ .Values.sidecar.user }}
    runAsGroup: {{ .Values.sidecar.user }}
    runAsNonRoot: true
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL]}
    seccompProfile: {type: RuntimeDefault}
  volumeMounts:
    - {name: consentry-config, mountPath: /etc/consentry, readOnly: true}
    - {name: consentry-secrets, mountPath: /run/secrets/consentry, readOnly: true}
    {{- if .Values.secrets.bankTls }}
    - {name: consentry-bank-tls, mountPath: /run/secrets/consentry-bank-tls, readOnly: true}
    {{- end }}
    - {name: consentry-spill, mountPath: /var/lib/consentry}
{{- end -}}

{{/* Volumes of the pod, a list. */}}
{{- define "consentry.volumes" -}}
- name: consentry-config
  configMap: {name: {{ include "consentry.fullname" . }}}
- name: consentry-secrets
  secret: {secretName: {{ .Values.secrets.name }}, defaultMode: 0440}
{{- with .Values.secrets.bankTls }}
- name: consentry-bank-tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- if not .Values.spill.volume }}
- name: consentry-spill
  emptyDir: {sizeLimit: {{ .Values.spill.size }}}
{{- end }}
{{- end -}}

{{/* Volume claims of a StatefulSet, a list; only with spill.volume. */}}
{{- define "consentry.volumeClaims" -}}
- metadata: {name: consentry-spill}
  spec:
    accessModes: [{{ .Values.spill.accessMode }}]
    {{- with .Values.spill.storageClassName }}
    storageClassName: {{ . }}
    {{- end }}
    resources: {requests: {storage: {{ .Values.spill.size }}}}
{{- end -}}
