{#- The combination of these columns is unique. -#}
{% test unique_together(model, columns) %}
    {{ return(repeated_rows(model, columns | join(', '))) }}
{% endtest %}
