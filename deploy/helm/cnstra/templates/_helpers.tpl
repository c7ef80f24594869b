{{- define "cnstra.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "cnstra.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "cnstra.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "cnstra.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What all pods of the release have, and no others: the labels of selectors, which never change. */}}
{{- define "cnstra.selector" -}}
app.kubernetes.io/name: {{ include "cnstra.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "cnstra.labels" -}}
{{ include "cnstra.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* It is the user's, and has no version of ours. */}}
{{- define "cnstra.image" -}}
{{- $image := .Values.image -}}
{{- if not (or $image.tag $image.digest) -}}
{{- fail "image: give tag, or digest" -}}
{{- end -}}
{{ $image.repository }}{{ with $image.tag }}:{{ . }}{{ end }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{- define "cnstra.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "cnstra.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Whether the chart makes a Secret: "yes", or nothing. Refuses what would be both, or neither. */}}
{{- define "cnstra.ownSecret" -}}
{{- $given := .Values.connections -}}
{{- if and $given.existingSecret (or $given.databaseUrl $given.brokerUrl) -}}
{{- fail "connections: give existingSecret, or databaseUrl and brokerUrl, and not both" -}}
{{- end -}}
{{- if and $given.existingSecret $given.ownerUrl -}}
{{- fail "connections: ownerUrl goes with databaseUrl; with existingSecret give ownerUrlKey" -}}
{{- end -}}
{{- if and $given.ownerUrlKey (not $given.existingSecret) -}}
{{- fail "connections: ownerUrlKey is one of existingSecret; with databaseUrl give ownerUrl" -}}
{{- end -}}
{{- if not $given.existingSecret -}}
{{- if not (and $given.databaseUrl $given.brokerUrl) -}}
{{- fail "connections: give existingSecret, or databaseUrl and brokerUrl" -}}
{{- end -}}
yes
{{- end -}}
{{- end -}}

{{- define "cnstra.secretData" -}}
{{ .Values.connections.databaseUrlKey }}: {{ .Values.connections.databaseUrl | quote }}
{{ .Values.connections.brokerUrlKey }}: {{ .Values.connections.brokerUrl | quote }}
{{- end -}}

{{/* More variables of the user's; those that the chart has by other values would undo these. */}}
{{- define "cnstra.env" -}}
{{- range .Values.env }}
{{- if has .name (list "CNSTRA_DATABASE_URL" "CNSTRA_DATABASE_URL_FILE" "CNSTRA_BROKER_URL" "CNSTRA_BROKER_URL_FILE" "CNSTRA_HEALTH") }}
{{- fail (printf "env: %s is said by connections and health" .name) }}
{{- end }}
{{- end }}
{{- with .Values.env }}
{{- toYaml . }}
{{- end }}
{{- end -}}

{{/* What lets pods ask for addresses, and reach the given servers: (list policy server …). */}}
{{- define "cnstra.egress" -}}
{{- $policy := first . -}}
- ports:
    - {protocol: UDP, port: {{ int $policy.dns.port }}}
    - {protocol: TCP, port: {{ int $policy.dns.port }}}
  {{- with $policy.dns.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- range rest . }}
- ports:
    - {protocol: TCP, port: {{ int .port }}}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- with $policy.egress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A variable from the Secret: (dict "variable" … "secret" … "key" …). */}}
{{- define "cnstra.fromSecret" -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end -}}

{{- define "cnstra.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "cnstra.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "cnstra.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}
