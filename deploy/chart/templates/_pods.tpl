{{- /* How every pod is confined, as compose/cloud does it, and what store and gallery have in common. */}}

{{- /* root, part, values; account: whose service account it has, where it is not its own */}}
{{- define "faceferry.pod" -}}
serviceAccountName: {{ include "faceferry.name" (dict "root" .root "part" (.account | default .part)) }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "faceferry.selector" . | nindent 8 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  # Or each start would touch every face of a large folder.
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "faceferry.confined" -}}
securityContext:
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "faceferry.tmp" -}}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 16Mi}
{{- end }}

{{- define "faceferry.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{- /* Every broker's address, with the user where passwords are asked for. */}}
{{- define "faceferry.brokers" -}}
{{- $urls := list }}
{{- range $index := until (int .root.Values.broker.count) }}
{{- $urls = append $urls (printf "mqtts://%s-broker-%d:8883" (include "faceferry.fullname" $.root) $index) }}
{{- end }}
{{- $urls = concat $urls .root.Values.brokers.urls }}
{{- if not $urls }}{{ fail "no broker: raise broker.count, or name others in brokers.urls" }}{{ end }}
{{- if eq .root.Values.brokers.clients "passwords" }}
{{- $named := list }}
{{- range $urls }}{{ $named = append $named (regexReplaceAll "^([a-z]+://)([^@]*)$" . (printf "${1}_%s@${2}" $.part)) }}{{ end }}
{{- $urls = $named }}
{{- end }}
{{- join "," $urls }}
{{- end }}

{{- /* What store and gallery are told alike; who has no Secret for the brokers is told nothing of them. root, part, values */}}
{{- define "faceferry.env" -}}
{{- $env := dict
    "FACEFERRY_STORE_URL" (required "storeUrl: say where faces go, s3://bucket/prefix or file:///var/lib/faceferry/faces" .root.Values.storeUrl) }}
{{- if .values.secrets.broker }}
{{- $_ := set $env "FACEFERRY_LOG_LEVEL" .root.Values.logLevel }}
{{- $_ := set $env "FACEFERRY_CLOUD_MQTT_URL" (include "faceferry.brokers" .) }}
{{- $_ := set $env "FACEFERRY_RETAIN_DAYS" (required "retainDays: say for how many days faces are kept, or forever" .root.Values.retainDays | toString) }}
{{- if eq .root.Values.brokers.clients "certificates" }}
{{- $_ := set $env "FACEFERRY_CLOUD_CERT_FILE" "/run/secrets/broker/tls.crt" }}
{{- $_ := set $env "FACEFERRY_CLOUD_KEY_FILE" "/run/secrets/broker/tls.key" }}
{{- else }}
{{- $_ := set $env "FACEFERRY_CLOUD_MQTT_PASSWORD_FILE" "/run/secrets/broker/password" }}
{{- end }}
{{- if not .root.Values.brokers.publicAuthority }}
{{- $_ := set $env "FACEFERRY_CLOUD_CA_FILE" "/run/secrets/broker/ca.crt" }}
{{- end }}
{{- end }}
{{- with .values.secrets.aws }}
{{- $_ := set $env "AWS_SHARED_CREDENTIALS_FILE" "/run/secrets/aws/credentials" }}
{{- end }}
{{- with .root.Values.s3 }}
{{- range $name, $value := dict "FACEFERRY_S3_ENDPOINT_URL" .endpointUrl "FACEFERRY_S3_PATH_STYLE" .pathStyle
    "AWS_DEFAULT_REGION" .region "FACEFERRY_S3_SERVER_SIDE_ENCRYPTION" .serverSideEncryption
    "FACEFERRY_S3_KMS_KEY_ID" .kmsKeyId "FACEFERRY_S3_BUCKET_KEY" .bucketKey }}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}{{ $_ := set $env $name (toString $value) }}{{ end }}
{{- end }}
{{- end }}
{{- merge (deepCopy .values.env) $env (.own | default dict) | toYaml }}
{{- end }}

{{- define "faceferry.envList" -}}
{{- range $name, $value := include "faceferry.env" . | fromYaml }}
- name: {{ $name }}
  {{- /* Helm reads large numbers as 1.3e+08. */}}
  value: {{ ternary (toJson $value) (toString $value) (kindIs "float64" $value) | quote }}
{{- end }}
{{- end }}

{{- define "faceferry.isFolder" -}}
{{- if hasPrefix "file:" .Values.storeUrl }}
{{- if not (hasPrefix "file:///var/lib/faceferry/" .Values.storeUrl) }}
{{- fail "storeUrl: the volume of a file:// store is /var/lib/faceferry, as in file:///var/lib/faceferry/faces" }}
{{- end }}yes
{{- end }}
{{- end }}

{{- define "faceferry.claim" -}}
{{ .Values.folder.claim | default (printf "%s-faces" (include "faceferry.fullname" .)) }}
{{- end }}

{{- /* Files of a Secret, readable to the pod's group alone. secret, name, keys */}}
{{- define "faceferry.secretVolume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    items: {{- range .keys }}
      - {key: {{ . }}, path: {{ . }}}
    {{- end }}
{{- end }}

{{- /* Secrets, /tmp and the folder of store and gallery. root, part, values */}}
{{- define "faceferry.volumes" -}}
{{ include "faceferry.tmp" . }}
{{- if .values.secrets.broker }}
{{- $keys := ternary (list "tls.crt" "tls.key") (list "password") (eq .root.Values.brokers.clients "certificates") }}
{{- if not .root.Values.brokers.publicAuthority }}{{ $keys = prepend $keys "ca.crt" }}{{ end }}
{{ include "faceferry.secretVolume" (dict "name" "broker" "secret" .values.secrets.broker "keys" $keys) }}
{{- end }}
{{- range $name, $keys := dict "aws" "credentials" "erase" "erase.pub" "group" "group" "notify" "url secret"
    "token" "token" }}
{{- with get $.values.secrets $name }}
{{ include "faceferry.secretVolume" (dict "name" $name "secret" . "keys" (splitList " " $keys)) }}
{{- end }}
{{- end }}
{{- if include "faceferry.isFolder" .root }}
- name: faces
  persistentVolumeClaim: {claimName: {{ include "faceferry.claim" .root }}, readOnly: {{ eq .part "gallery" }}}
{{- end }}
{{- end }}

{{- define "faceferry.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- range tuple "broker" "aws" "erase" "group" "notify" "token" }}
{{- if get $.values.secrets . }}
- {name: {{ . }}, mountPath: /run/secrets/{{ . }}, readOnly: true}
{{- end }}
{{- end }}
{{- if include "faceferry.isFolder" .root }}
- {name: faces, mountPath: /var/lib/faceferry, readOnly: {{ eq .part "gallery" }}}
{{- end }}
{{- end }}
