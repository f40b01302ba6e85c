{{- /* What things are called, and what is written on them. Each takes a dict: root, part (store, gallery, broker), more. */}}

{{- define "faceferry.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "faceferry.name" -}}
{{ include "faceferry.fullname" .root }}-{{ .part }}
{{- end }}

{{- define "faceferry.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "faceferry.labels" -}}
{{- $own := include "faceferry.selector" . | fromYaml }}
{{- $own = merge $own (dict
    "app.kubernetes.io/version" (.root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | trimSuffix "-")
    "app.kubernetes.io/part-of" "faceferry"
    "app.kubernetes.io/managed-by" .root.Release.Service
    "helm.sh/chart" (printf "%s-%s" .root.Chart.Name (.root.Chart.Version | replace "+" "_"))) }}
{{- merge $own (deepCopy (.labels | default dict)) (deepCopy .root.Values.commonLabels) | toYaml }}
{{- end }}

{{- /* name, labels and annotations of an object; more: name, labels, annotations */}}
{{- define "faceferry.metadata" -}}
name: {{ .name | default (include "faceferry.name" .) }}
namespace: {{ .root.Release.Namespace }}
labels: {{- include "faceferry.labels" . | nindent 2 }}
{{- with merge (dict) (deepCopy (.annotations | default dict)) (deepCopy .root.Values.commonAnnotations) }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* labels and annotations of a pod; more: labels, annotations */}}
{{- define "faceferry.podMetadata" -}}
labels: {{- include "faceferry.labels" . | nindent 2 }}
{{- with merge (dict) (deepCopy (.annotations | default dict)) (deepCopy .root.Values.commonAnnotations) }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "faceferry.image" -}}
{{- with .Values.image -}}
{{ .registry }}/store{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}
