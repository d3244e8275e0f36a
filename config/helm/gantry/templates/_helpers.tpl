{{- define "gantry.labels" -}}
app.kubernetes.io/name: gantry
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
{{- define "gantry.selector" -}}
app.kubernetes.io/name: gantry
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "gantry.jobNamespace" -}}
{{ .Values.jobNamespace | default .Release.Namespace }}
{{- end }}
{{- define "gantry.tokenSecret" -}}
{{ .Values.tokenSecret | default (printf "%s-token" .Release.Name) }}
{{- end }}
{{- define "gantry.roleKind" -}}
{{ if (.Values.rights | default dict).namespacePerJob }}ClusterRole{{ else }}Role{{ end }}
{{- end }}
{{- /* Names of ClusterRoles are shared by all namespaces. */}}
{{- define "gantry.roleName" -}}
{{ if (.Values.rights | default dict).namespacePerJob }}{{ .Release.Namespace }}-{{ end }}{{ .Release.Name }}
{{- end }}
