{{- define "gc.name" -}}
{{- printf "%s-ground-control" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- define "gc.labels" -}}
app.kubernetes.io/name: ground-control
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}
{{- define "gc.selector" -}}
app.kubernetes.io/name: ground-control
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
